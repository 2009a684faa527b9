"""Use cases of orders that nobody pays: cancelled by somebody, or run out."""

from typing import Any, Final
from uuid import UUID

from sqlalchemy import Row, bindparam, func, select, update
from sqlalchemy.orm import Session

from app.audit.actions import Action
from app.orders import order_queries, order_steps
from app.orders.models import discounts, orders
from app.orders.order_queries import Order
from app.orders.values import CancelReason, OrderStatus
from app.platform import clock
from app.platform.actor import Actor
from app.platform.db import transaction
from app.platform.errors import NotFound
from app.platform.logging import get_logger
from app.users import administration
from app.users import service as users

MAY_WRITE: Final = "orders:write"
EXPIRED_AT_ONCE: Final = 500
log = get_logger(__name__)

_GIVE_BACK = (
    update(discounts)
    .where(discounts.c.id == bindparam("of_discount"))
    .values(redeemed=discounts.c.redeemed - 1)
)


def cancel(session: Session, *, actor: Actor, order_id: UUID) -> Order:
    """Cancel an order that isn't paid; a discount's redemption is free again.

    For its owner, or with `orders:write`.

    Raises NotFound, StrongerUser or OrderState.
    """
    order = order_steps.hold(session, order_id)
    own = order.user_id == actor.user_id
    if not own:
        if not actor.may(MAY_WRITE):
            raise NotFound
        administration.refuse_stronger(actor, users.roles(session, order.user_id))
    _cancel(session, order, actor=actor, reason=_whose(own=own))
    return order_queries.read(session, order_id)


def cancel_all(session: Session, *, actor: Actor, user_id: UUID) -> None:
    """Cancel every order of a user that isn't paid, for whoever lets the user go.

    The caller holds the user's row: no order is placed meanwhile.
    """
    # All of them before the first discount, and discounts in one order as well: whoever cancels one
    # of these holds its order as they wait for its discount. What was paid or has run out while we
    # waited for it is none of these any more: PostgreSQL looks at the status again.
    unpaid = (
        select(orders)
        .where(orders.c.user_id == user_id, orders.c.status == OrderStatus.PLACED)
        .order_by(orders.c.id)
        .with_for_update(key_share=True)
    )
    held = session.execute(unpaid).all()
    for order in sorted(held, key=lambda order: (str(order.discount_id), order.id)):
        _cancel(session, order, actor=actor, reason=_whose(own=user_id == actor.user_id))


def count_placed(session: Session, *, user_id: UUID) -> int:
    """Return how many orders of a user may still be paid."""
    placed = select(func.count()).where(
        orders.c.user_id == user_id, orders.c.status == OrderStatus.PLACED
    )
    return session.execute(placed).scalar_one()


def expire_due() -> int:
    """Cancel what wasn't paid in time, and return how many orders that were.

    Each in a transaction of its own; one that is paid or cancelled meanwhile is passed over. One
    that can't be cancelled keeps no other from it, and is tried again by the next call; the fault
    is raised in the end.

    Raises Unavailable, and whatever a mistake of ours raises.
    """
    expired, failed, fault = 0, set[UUID](), None
    while due := order_queries.due(now=clock.now(), most=EXPIRED_AT_ONCE, but=failed):
        for order_id in due:
            try:
                expired += _expire(order_id)
            except Exception as error:
                log.error("order_expiry_failed", order_id=str(order_id), exc_info=error)
                failed.add(order_id)
                fault = error
    if fault is not None:
        raise fault
    return expired


def _expire(order_id: UUID) -> bool:
    with transaction() as session:
        order = order_steps.hold(session, order_id)
        if order.status == OrderStatus.PLACED:
            _cancel(session, order, actor=Actor(kind="system"), reason=CancelReason.EXPIRED)
        return bool(order.status == OrderStatus.PLACED)


def _cancel(session: Session, order: Row[Any], *, actor: Actor, reason: CancelReason) -> None:
    order_steps.check_step(order, OrderStatus.CANCELLED)
    order_steps.change(
        session,
        order,
        status=OrderStatus.CANCELLED,
        cancelled_at=clock.now(),
        cancel_reason=reason,
    )
    if order.discount_id is not None:
        session.execute(_GIVE_BACK, {"of_discount": order.discount_id})
    order_steps.record(session, Action.ORDER_CANCELLED, order.id, actor=actor, reason=reason.value)


def _whose(*, own: bool) -> CancelReason:
    return CancelReason.BY_USER if own else CancelReason.BY_STAFF
