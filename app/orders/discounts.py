"""Use cases of discounts, which staff makes and changes."""

from collections.abc import Collection, Mapping, Sequence
from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy import bindparam, select
from sqlalchemy.orm import Session

from app.audit.actions import Action
from app.orders import catalogue
from app.orders.catalogue import Kind
from app.orders.errors import CodeTaken, RedeemedMoreOften
from app.orders.models import CatalogueRow, discounts
from app.orders.values import code_key
from app.platform.actor import Actor
from app.platform.db import reading
from app.platform.errors import Invalid


def _derived(values: Mapping[str, Any]) -> dict[str, Any]:
    return {"code_key": code_key(values["code"])} if "code" in values else {}


_KIND = Kind(
    name="discount",
    table=discounts,
    shown=(
        discounts.c.id,
        discounts.c.code,
        discounts.c.hundredths,
        discounts.c.max_redemptions,
        discounts.c.redeemed,
        discounts.c.starts_at,
        discounts.c.ends_at,
        discounts.c.active,
        discounts.c.version,
    ),
    derive=_derived,
    created=Action.DISCOUNT_CREATED,
    changed=Action.DISCOUNT_CHANGED,
    unique="uq_discounts_code_key",
    taken=CodeTaken,
)
_LIST = (
    select(*_KIND.shown, discounts.c.code_key)
    .order_by(discounts.c.code_key)
    .limit(bindparam("limit"))
    .offset(bindparam("offset"))
)


def list_discounts(
    *, after: tuple[Any, ...] | None, limit: int, offset: int
) -> Sequence[CatalogueRow]:
    """Return all discounts, by the key of their code.

    Raises Unavailable.
    """
    statement = _LIST if after is None else _LIST.where(discounts.c.code_key > after[0])
    with reading() as connection:
        return connection.execute(statement, {"limit": limit, "offset": offset}).all()


def get_discount(discount_id: UUID) -> CatalogueRow:
    """Return a discount; its percent is in `hundredths`.

    Raises NotFound or Unavailable.
    """
    return catalogue.get(_KIND, discount_id)


def create_discount(
    session: Session,
    *,
    actor: Actor,
    code: str,
    percent: int,
    max_redemptions: int | None,
    starts_at: datetime | None,
    ends_at: datetime | None,
    active: bool,
) -> CatalogueRow:
    """Add a discount, in the caller's transaction, and return it.

    `percent` is in hundredths. It counts from `starts_at` on and not at `ends_at` any more. None
    is no limit.

    Raises CodeTaken or Invalid (it would end before it starts).
    """
    values = {
        "code": code,
        "hundredths": percent,
        "max_redemptions": max_redemptions,
        "redeemed": 0,
        "starts_at": starts_at,
        "ends_at": ends_at,
        "active": active,
    }
    _check(values)
    return catalogue.create(session, _KIND, actor=actor, values=values)


def change_discount(
    session: Session,
    *,
    actor: Actor,
    discount_id: UUID,
    changes: Mapping[str, Any],
    versions: Collection[int] | None = None,
) -> CatalogueRow:
    """Change what `create_discount` takes, in the caller's transaction; return the discount.

    `versions` are those that the caller knows of; None: any. Nobody redeems it meanwhile. What is
    as wanted already isn't changed, and leaves no event.

    Raises NotFound, PreconditionFailed, CodeTaken, RedeemedMoreOften or Invalid (it would end
    before it starts).
    """
    held = catalogue.hold(session, _KIND, discount_id, versions=versions)
    wanted = {"hundredths" if name == "percent" else name: new for name, new in changes.items()}
    _check({**held._mapping, **wanted})
    return catalogue.change(session, _KIND, held, actor=actor, wanted=wanted)


def _check(discount: Mapping[str, Any]) -> None:
    """Raise Invalid or RedeemedMoreOften when no discount can be like this."""
    starts_at, ends_at = discount["starts_at"], discount["ends_at"]
    if starts_at is not None and ends_at is not None and ends_at <= starts_at:
        raise Invalid(details={"ends_at": ["Must be after starts_at."]})
    maximum, redeemed = discount["max_redemptions"], discount["redeemed"]
    if maximum is not None and maximum < redeemed:
        raise RedeemedMoreOften(details={"redeemed": redeemed})
