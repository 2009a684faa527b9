"""What every step of an order does: hold the row, look at its state, change it, tell of that."""

from collections.abc import Mapping
from functools import partial
from typing import Any, Final
from uuid import UUID

from sqlalchemy import Row, select, update
from sqlalchemy.orm import Session

from app.audit import service as audit
from app.audit.actions import Action
from app.orders.errors import OrderState
from app.orders.models import orders
from app.orders.values import TRANSITIONS, OrderStatus
from app.platform import metrics, tracing
from app.platform.actor import Actor
from app.platform.db import after_commit
from app.platform.errors import NotFound
from app.platform.logging import get_logger

log = get_logger(__name__)

# What a step is called in the metrics and in the log.
_STEPS: Final[Mapping[Action, str]] = {
    Action.ORDER_PLACED: "place_order",
    Action.ORDER_PAID: "pay_order",
    Action.ORDER_CANCELLED: "cancel_order",
    Action.ORDER_FULFILLED: "fulfil_order",
    Action.ORDER_REFUNDED: "refund_order",
}
_taken = metrics.counter("orders_processed_total", "Steps of orders.", step=_STEPS.values())


@tracing.step("lock_order")
def hold(session: Session, order_id: UUID) -> Row[Any]:
    """Lock an order until the caller's transaction ends: before discounts and accounts.

    Raises NotFound.
    """
    held = session.execute(
        select(orders).where(orders.c.id == order_id).with_for_update(key_share=True)
    ).one_or_none()
    if held is None:
        raise NotFound
    return held


def check_step(order: Row[Any], status: OrderStatus) -> None:
    """Make sure that an order may become that.

    Raises OrderState.
    """
    if status not in TRANSITIONS[OrderStatus(order.status)]:
        raise wrong_state(order)


def wrong_state(order: Row[Any]) -> OrderState:
    """Return the refusal of a step that the order isn't in the state for."""
    return OrderState(details={"status": order.status})


@tracing.step("change_order")
def change(session: Session, order: Row[Any], **values: Any) -> None:
    """Write what becomes of an order that is held, as its next version."""
    session.execute(
        update(orders).where(orders.c.id == order.id).values(version=order.version + 1, **values)
    )


@tracing.step("record_event")
def record(
    session: Session, action: Action, order_id: UUID, *, actor: Actor, **details: Any
) -> None:
    """Record what happened to an order, and tell of it once it is committed.

    Details that are None are left out.
    """
    told = {name: value for name, value in details.items() if value is not None}
    audit.record(
        session, action, actor=actor, subject_type="order", subject_id=order_id, details=told
    )
    after_commit(session, partial(_tell, _STEPS[action], order_id, told.get("transfer_id")))


def _tell(step: str, order_id: UUID, transfer_id: str | None) -> None:
    _taken.of(step).inc()
    log.info(step, order_id=str(order_id), transfer_id=transfer_id)
