"""Use cases of orders: place, pay, fulfil and refund them."""

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy import CursorResult, RowMapping, and_, bindparam, insert, or_, select, update
from sqlalchemy.orm import Session

from app.audit.actions import Action
from app.credits import ledger
from app.credits.values import TransferKind
from app.orders import order_queries, order_steps, pricing
from app.orders.errors import (
    DiscountNotApplicable,
    OrderState,
    PriceChanged,
    RefundExceedsPayment,
    SelfRefund,
)
from app.orders.models import discounts, order_items, orders, products
from app.orders.order_queries import Order
from app.orders.values import (
    FULFILLABLE,
    LIFETIME,
    MAX_TOTAL,
    OrderStatus,
    code_key,
)
from app.platform import clock, ids, tracing
from app.platform.actor import Actor
from app.platform.errors import Invalid, NotFound, Unauthenticated
from app.platform.idempotency import Outdated
from app.users import administration
from app.users import service as users
from app.users.models import users as users_table
from app.users.values import Status

_FOR_SALE = select(products.c.id, products.c.sku, products.c.name, products.c.price).where(
    products.c.sku.in_(bindparam("skus", expanding=True)), products.c.active
)
_APPLICABLE = and_(
    discounts.c.code_key == bindparam("wanted"),
    discounts.c.active,
    or_(discounts.c.starts_at.is_(None), discounts.c.starts_at <= bindparam("now")),
    or_(discounts.c.ends_at.is_(None), discounts.c.ends_at > bindparam("now")),
    or_(discounts.c.max_redemptions.is_(None), discounts.c.redeemed < discounts.c.max_redemptions),
)
_LOOK_UP = select(discounts.c.id, discounts.c.code, discounts.c.hundredths).where(_APPLICABLE)
# Decided under the row's lock, so that of many who want the last redemption one gets it.
_REDEEM = (
    update(discounts)
    .where(_APPLICABLE, discounts.c.hundredths == bindparam("seen"))
    .values(redeemed=discounts.c.redeemed + 1)
)
# Until the order is there: a deletion that begins meanwhile waits, and then finds it.
_STAYS = (
    select(users_table.c.status)
    .where(users_table.c.id == bindparam("of_user"))
    .with_for_update(read=True)
)


@tracing.step("place_order")
def place(
    session: Session,
    *,
    actor: Actor,
    items: Sequence[Mapping[str, Any]],
    discount_code: str | None,
    expected_total: int | None,
) -> Order:
    """Place an order of the actor's at today's prices, in the caller's transaction.

    Each item has `sku` and `quantity`. Everything that it is made of is copied; a discount's
    redemption is taken now. It can be paid for 24 hours.

    Raises Unauthenticated, Invalid (an unknown, inactive or repeated SKU, or too much in all),
    DiscountNotApplicable, PriceChanged, or Outdated (the discount changed meanwhile).
    """
    if session.execute(_STAYS, {"of_user": actor.user_id}).scalar() != Status.ACTIVE:
        raise Unauthenticated
    lines = _lines(session, items)
    subtotal = sum(line["total"] for line in lines)
    if subtotal > MAX_TOTAL:
        raise Invalid(details={"items": ["Cost more than an account can hold."]})
    now = clock.now()
    discount = _look_up(session, discount_code, now=now)
    total = pricing.reduced(subtotal, hundredths=discount["hundredths"] if discount else 0)
    if expected_total is not None and expected_total != total:
        raise PriceChanged(details={"total": total})
    order_id = ids.new()
    session.execute(
        insert(orders),
        {
            "id": order_id,
            "user_id": actor.user_id,
            "status": OrderStatus.PLACED,
            "subtotal": subtotal,
            "discount": subtotal - total,
            "total": total,
            "discount_id": discount["id"] if discount else None,
            "discount_code": discount["code"] if discount else None,
            "discount_hundredths": discount["hundredths"] if discount else None,
            "created_at": now,
            "expires_at": now + LIFETIME,
        },
    )
    session.execute(insert(order_items), [{"order_id": order_id, **line} for line in lines])
    order_steps.record(session, Action.ORDER_PLACED, order_id, actor=actor, total=total)
    placed = order_queries.read(session, order_id)
    if discount is not None:
        _redeem(session, discount, now=now)
    return placed


@tracing.step("pay_order")
def pay(session: Session, *, actor: Actor, order_id: UUID) -> Order:
    """Pay an order of the actor's, in the caller's transaction; one that is free costs nothing.

    Raises NotFound, OrderState, InsufficientCredits (the order stays payable) or PayerNotFound.
    """
    order = order_steps.hold(session, order_id)
    if order.user_id != actor.user_id:
        raise NotFound
    now = clock.now()
    order_steps.check_step(order, OrderStatus.PAID)
    # Whatever the job has done.
    if order.expires_at <= now:
        raise OrderState(details={"status": order.status, "expires_at": order.expires_at})
    order_steps.change(session, order, status=OrderStatus.PAID, paid_at=now)
    payment_id = ids.new() if order.total else None
    order_steps.record(
        session,
        Action.ORDER_PAID,
        order_id,
        actor=actor,
        total=order.total,
        transfer_id=str(payment_id) if payment_id else None,
    )
    paid = order_queries.read(session, order_id)
    if payment_id is not None:
        ledger.post(
            session,
            transfer_id=payment_id,
            kind=TransferKind.PAYMENT,
            from_user_id=order.user_id,
            to_user_id=None,
            amount=order.total,
            actor=actor,
            memo=None,
            order_id=order_id,
        )
    return paid


@tracing.step("fulfil_order")
def fulfil(session: Session, *, actor: Actor, order_id: UUID) -> Order:
    """Note that an order was delivered, once, while it is paid or partially refunded.

    Raises NotFound, StrongerUser or OrderState.
    """
    order = order_steps.hold(session, order_id)
    administration.refuse_stronger(actor, users.roles(session, order.user_id))
    if order.status not in FULFILLABLE or order.fulfilled_at is not None:
        raise order_steps.wrong_state(order)
    order_steps.change(session, order, fulfilled_at=clock.now())
    order_steps.record(session, Action.ORDER_FULFILLED, order_id, actor=actor)
    return order_queries.read(session, order_id)


@tracing.step("refund_order")
def refund(
    session: Session, *, actor: Actor, order_id: UUID, amount: int | None, reason: str
) -> Order:
    """Give a part of a payment back, or with no amount all that is left of it.

    It always posts, whatever has become of the user. The redemption of a discount stays used.

    Raises NotFound, SelfRefund, StrongerUser, OrderState, RefundExceedsPayment or BalanceLimit.
    """
    order = order_steps.hold(session, order_id)
    if order.user_id == actor.user_id:
        raise SelfRefund
    administration.refuse_stronger(actor, users.roles(session, order.user_id))
    if order.paid_at is None:
        raise order_steps.wrong_state(order)
    left = order.total - order.refunded
    back = left if amount is None else amount
    if not 0 < back <= left:
        raise RefundExceedsPayment(details={"refundable": left})
    status = OrderStatus.REFUNDED if back == left else OrderStatus.PARTIALLY_REFUNDED
    order_steps.check_step(order, status)
    order_steps.change(session, order, status=status, refunded=order.refunded + back)
    refund_id = ids.new()
    order_steps.record(
        session, Action.ORDER_REFUNDED, order_id, actor=actor, amount=back,
        transfer_id=str(refund_id),
    )  # fmt: skip
    refunded = order_queries.read(session, order_id)
    ledger.post(
        session,
        transfer_id=refund_id,
        kind=TransferKind.REFUND,
        from_user_id=None,
        to_user_id=order.user_id,
        amount=back,
        actor=actor,
        memo=reason,
        order_id=order_id,
    )
    return refunded


@tracing.step("price_items")
def _lines(session: Session, items: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Return the items as they are stored, at today's prices.

    Raises Invalid.
    """
    found = session.execute(_FOR_SALE, {"skus": [item["sku"] for item in items]}).all()
    for_sale = {product.sku: product for product in found}
    problems: dict[str, list[str]] = {}
    lines: dict[str, dict[str, Any]] = {}
    for number, item in enumerate(items):
        product = for_sale.get(item["sku"])
        if product is None:
            problems[f"items.{number}.sku"] = ["Is not for sale."]
        elif product.sku in lines:
            problems[f"items.{number}.sku"] = ["Stands here twice."]
        else:
            lines[product.sku] = {
                "position": number + 1,
                "product_id": product.id,
                "sku": product.sku,
                "name": product.name,
                "unit_price": product.price,
                "quantity": item["quantity"],
                "total": product.price * item["quantity"],
            }
    if problems:
        raise Invalid(details=problems)
    return list(lines.values())


@tracing.step("find_discount")
def _look_up(session: Session, code: str | None, *, now: datetime) -> RowMapping | None:
    if code is None:
        return None
    wanted = {"wanted": code_key(code), "now": now}
    found = session.execute(_LOOK_UP, wanted).mappings().one_or_none()
    if found is None:
        raise DiscountNotApplicable
    return found


@tracing.step("redeem_discount")
def _redeem(session: Session, discount: RowMapping, *, now: datetime) -> None:
    """Take a redemption, last of all: everybody with the same code waits for this row.

    Raises Outdated.
    """
    wanted = {"wanted": code_key(discount["code"]), "now": now, "seen": discount["hundredths"]}
    taken: CursorResult[Any] = session.connection().execute(_REDEEM, wanted)
    if not taken.rowcount:
        raise Outdated
