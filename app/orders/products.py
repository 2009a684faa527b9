"""Use cases of products: everybody reads them, staff makes and changes them."""

from collections.abc import Collection, Mapping, Sequence
from typing import Any
from uuid import UUID

from sqlalchemy import bindparam, select
from sqlalchemy.orm import Session

from app.audit.actions import Action
from app.orders import catalogue
from app.orders.catalogue import Kind
from app.orders.errors import SkuTaken
from app.orders.models import CatalogueRow, products
from app.platform.actor import Actor
from app.platform.db import reading
from app.platform.name_search import contains, name_grams


def _derived(values: Mapping[str, Any]) -> dict[str, Any]:
    return {"name_grams": name_grams(values["name"])} if "name" in values else {}


_KIND = Kind(
    name="product",
    table=products,
    shown=(
        products.c.id,
        products.c.sku,
        products.c.name,
        products.c.price,
        products.c.active,
        products.c.version,
    ),
    derive=_derived,
    created=Action.PRODUCT_CREATED,
    changed=Action.PRODUCT_CHANGED,
    unique="uq_products_sku",
    taken=SkuTaken,
)
_LIST = (
    select(*_KIND.shown)
    .where(products.c.active == bindparam("active"))
    .order_by(products.c.sku)
    .limit(bindparam("limit"))
    .offset(bindparam("offset"))
)


def list_products(
    *,
    name: str | None = None,
    active: bool,
    after: tuple[Any, ...] | None,
    limit: int,
    offset: int,
) -> Sequence[CatalogueRow]:
    """Return the products that are active, or those that aren't, by SKU.

    `name` matches a part of the name in any case.

    Raises Unavailable.
    """
    statement = _LIST
    if name is not None:
        searched = contains(name, name=products.c.name, grams=products.c.name_grams)
        statement = statement.where(searched)
    if after is not None:
        statement = statement.where(products.c.sku > after[0])
    wanted = {"active": active, "limit": limit, "offset": offset}
    with reading() as connection:
        return connection.execute(statement, wanted).all()


def get_product(product_id: UUID) -> CatalogueRow:
    """Return a product, active or not: whoever has its id may have ordered it.

    Raises NotFound or Unavailable.
    """
    return catalogue.get(_KIND, product_id)


def create_product(
    session: Session, *, actor: Actor, sku: str, name: str, price: int, active: bool
) -> CatalogueRow:
    """Add a product, in the caller's transaction, and return it. The price is in credits.

    Raises SkuTaken.
    """
    values = {"sku": sku, "name": name, "price": price, "active": active}
    return catalogue.create(session, _KIND, actor=actor, values=values)


def change_product(
    session: Session,
    *,
    actor: Actor,
    product_id: UUID,
    changes: Mapping[str, Any],
    versions: Collection[int] | None = None,
) -> CatalogueRow:
    """Change `sku`, `name`, `price` or `active`, in the caller's transaction; return the product.

    `versions` are those that the caller knows of; None: any. What is as wanted already isn't
    changed, and leaves no event.

    Raises NotFound, PreconditionFailed or SkuTaken.
    """
    held = catalogue.hold(session, _KIND, product_id, versions=versions)
    return catalogue.change(session, _KIND, held, actor=actor, wanted=changes)
