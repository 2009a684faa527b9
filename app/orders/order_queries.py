"""What orders look like to who may see them."""

from collections.abc import Collection, Iterator, Sequence
from datetime import datetime
from typing import Any, Final, TypeAlias
from uuid import UUID

from sqlalchemy import RowMapping, Select, func, select, tuple_
from sqlalchemy.dialects.postgresql import JSONB, aggregate_order_by
from sqlalchemy.orm import Session

from app.orders.models import order_items, orders
from app.orders.values import OrderStatus
from app.platform.actor import Actor
from app.platform.db import reading
from app.platform.errors import NotFound

MAY_SEE: Final = "orders:read"
# Rows of a stream that are in memory at a time.
# Of orders with up to 100 items each: a few megabytes.
PAGE: Final = 200

# An order with its `items`, as the API shows it, and its `version`.
Order: TypeAlias = RowMapping

_ITEM = ("product_id", "sku", "name", "unit_price", "quantity", "total")
_ITEMS = (
    select(
        func.jsonb_agg(
            aggregate_order_by(
                func.jsonb_build_object(
                    *(part for name in _ITEM for part in (name, order_items.c[name])),
                    type_=JSONB,
                ),
                order_items.c.position,
            ),
            type_=JSONB,
        )
    )
    .where(order_items.c.order_id == orders.c.id)
    .correlate(orders)
    .scalar_subquery()
)
# One statement, so that a list is one round trip and an order and its items are of one moment.
ALL: Select[Any] = select(
    orders.c.id,
    orders.c.user_id,
    orders.c.status,
    _ITEMS.label("items"),
    orders.c.subtotal,
    orders.c.discount,
    orders.c.total,
    orders.c.refunded,
    orders.c.created_at,
    orders.c.expires_at,
    orders.c.paid_at,
    orders.c.fulfilled_at,
    orders.c.cancelled_at,
    orders.c.cancel_reason,
    orders.c.discount_code,
    orders.c.version,
)
_position = tuple_(orders.c.created_at, orders.c.id)


def read(session: Session, order_id: UUID) -> Order:
    """Return an order as the caller's transaction has made it."""
    return session.execute(ALL.where(orders.c.id == order_id)).mappings().one()


def get(*, actor: Actor, order_id: UUID) -> Order:
    """Return an order to its owner, or to staff with `orders:read`.

    Raises NotFound, for strangers as for ids that don't exist.
    """
    query = ALL.where(orders.c.id == order_id)
    if not actor.may(MAY_SEE):
        query = query.where(orders.c.user_id == actor.user_id)
    with reading() as connection:
        found = connection.execute(query).mappings().one_or_none()
    if found is None:
        raise NotFound
    return found


def look_for_order(order_id: UUID, *, owner_id: UUID | None = None) -> None:
    """Make sure that an order is there, and the owner's if one is given, before all else is read.

    Raises NotFound.
    """
    query = select(orders.c.id).where(orders.c.id == order_id)
    if owner_id is not None:
        query = query.where(orders.c.user_id == owner_id)
    with reading() as connection:
        if connection.execute(query).first() is None:
            raise NotFound


def list_orders(
    *,
    actor: Actor,
    status: str | None = None,
    user_id: UUID | None = None,
    created_after: datetime | None = None,
    after: tuple[Any, ...] | None,
    limit: int,
    offset: int = 0,
) -> Sequence[Order]:
    """Return the orders that the actor may see, newest first: own ones, or all for staff."""
    query = ALL
    if not actor.may(MAY_SEE):
        query = query.where(orders.c.user_id == actor.user_id)
    if status is not None:
        query = query.where(orders.c.status == status)
    if user_id is not None:
        query = query.where(orders.c.user_id == user_id)
    if created_after is not None:
        query = query.where(orders.c.created_at > created_after)
    if after is not None:
        query = query.where(_position < after)
    query = query.order_by(orders.c.created_at.desc(), orders.c.id.desc())
    with reading() as connection:
        return connection.execute(query.limit(limit).offset(offset)).mappings().all()


def stream(*, actor: Actor, **filters: Any) -> Iterator[Order]:
    """Return every order that the actor may see, newest first, PAGE of them in memory at a time.

    Each page is a statement of its own, so an order that changes meanwhile is shown as it is then.
    The first one is read before this returns.

    Raises Unavailable.
    """

    def read_page(after: tuple[Any, ...] | None) -> Sequence[Order]:
        return list_orders(actor=actor, after=after, limit=PAGE, **filters)

    def go_on(page: Sequence[Order]) -> Iterator[Order]:
        yield from page
        while len(page) == PAGE:
            page = read_page((page[-1]["created_at"], page[-1]["id"]))
            yield from page

    return go_on(read_page(None))


def due(*, now: datetime, most: int, but: Collection[UUID]) -> Sequence[UUID]:
    """Return orders that nobody has paid in time, up to so many, but for some."""
    query = (
        select(orders.c.id)
        .where(orders.c.status == OrderStatus.PLACED, orders.c.expires_at <= now)
        .where(orders.c.id.not_in(but))
        .order_by(orders.c.expires_at, orders.c.id)
        .limit(most)
    )
    with reading() as connection:
        return connection.scalars(query).all()
