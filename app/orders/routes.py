"""`/api/v1/orders`: what users buy with their credits."""

from typing import Any
from uuid import UUID

from flask import Response

from app.credits.errors import BalanceLimit, InsufficientCredits, LedgerFrozen, PayerNotFound
from app.orders import cancellation, order_queries, service, spreadsheet
from app.orders.cancellation import MAY_WRITE
from app.orders.errors import (
    DiscountNotApplicable,
    OrderState,
    PriceChanged,
    RefundExceedsPayment,
    SelfRefund,
)
from app.orders.order_queries import MAY_SEE, Order
from app.orders.schemas import (
    OrderFilter,
    OrderHeadOut,
    OrderIn,
    OrderListOut,
    OrderOut,
    OrderQuery,
    RefundIn,
)
from app.platform import http, pagination
from app.platform.fields import Compiled, Empty
from app.platform.guards import also_opened_by, current_actor, requires
from app.platform.http import exists, fails, keyed, takes_key
from app.platform.idempotency import Answer
from app.platform.replies import reply_once
from app.users.errors import StrongerUser

blp = http.Blueprint(
    "orders", __name__, url_prefix="/orders", description="What users buy with their credits."
)

_head = Compiled(OrderHeadOut())


@blp.route("", methods=["POST"])
@blp.arguments(OrderIn())
@blp.response(201, OrderOut())
@fails(PriceChanged, DiscountNotApplicable)
@keyed
def place_order(body: dict[str, Any]) -> Response:
    """Place an order at today's prices. It can be paid for 24 hours."""
    actor = current_actor()
    return reply_once(lambda session: service.place(session, actor=actor, **body), _placed)


@blp.route("")
@also_opened_by(MAY_SEE)
@blp.arguments(OrderQuery(), location="query")
@blp.response(200, OrderListOut())
def list_orders(arguments: dict[str, Any]) -> Response:
    """The signed-in user's orders, newest first; everybody's with `orders:read`."""
    actor = current_actor()
    page = pagination.page(arguments, route="orders", actor=actor)
    rows = order_queries.list_orders(
        actor=actor,
        status=arguments.get("status"),
        user_id=arguments.get("user_id"),
        created_after=arguments.get("created_after"),
        after=page.after,
        limit=page.limit,
        offset=page.offset,
    )
    return http.respond(
        pagination.listing(page, rows, wire=_wire, key=lambda row: (row["created_at"], row["id"]))
    )


@blp.route("/export.csv")
@also_opened_by(MAY_SEE)
@blp.arguments(OrderFilter(), location="query")
@blp.response(200, content_type="text/csv", description="One line for each order.")
def export_orders(arguments: dict[str, Any]) -> Response:
    """The orders that the list shows, as a file for spreadsheets."""
    orders = order_queries.stream(actor=current_actor(), **arguments)
    response = Response(spreadsheet.lines(orders), content_type="text/csv; charset=utf-8")
    response.headers["Cache-Control"] = http.NO_STORE
    response.headers["Content-Disposition"] = 'attachment; filename="orders.csv"'
    return response


@blp.route("/<uuid:order_id>")
@also_opened_by(MAY_SEE)
@blp.response(200, OrderOut())
@blp.alt_response(304, description="The client has this version already.")
def get_order(order_id: UUID) -> Response:
    """An order of the signed-in user; any with `orders:read`."""
    order = order_queries.get(actor=current_actor(), order_id=order_id)
    return http.respond(_wire(order), etag=order["version"])


def _own(order_id: UUID) -> None:
    order_queries.look_for_order(order_id, owner_id=current_actor().user_id)


def _own_or_staff(order_id: UUID) -> None:
    actor = current_actor()
    owner_id = None if actor.may(MAY_WRITE) else actor.user_id
    order_queries.look_for_order(order_id, owner_id=owner_id)


@blp.route("/<uuid:order_id>/pay", methods=["POST"])
@exists(_own)
@blp.arguments(Empty())
@blp.response(200, OrderOut())
@fails(InsufficientCredits, PayerNotFound, OrderState, LedgerFrozen)
@keyed
def pay_order(_body: dict[str, Any], order_id: UUID) -> Response:
    """Pay an order of one's own with one's credits. Without enough of them it stays payable."""
    actor = current_actor()
    return reply_once(lambda session: service.pay(session, actor=actor, order_id=order_id), _shown)


@blp.route("/<uuid:order_id>/cancel", methods=["POST"])
@also_opened_by(MAY_WRITE)
@exists(_own_or_staff)
@blp.arguments(Empty())
@blp.response(200, OrderOut())
@fails(StrongerUser, OrderState)
@takes_key
def cancel_order(_body: dict[str, Any], order_id: UUID) -> Response:
    """Cancel an order that isn't paid. For its owner, or with `orders:write`."""
    actor = current_actor()
    return reply_once(
        lambda session: cancellation.cancel(session, actor=actor, order_id=order_id),
        _shown,
    )


@blp.route("/<uuid:order_id>/fulfil", methods=["POST"])
@requires(MAY_WRITE)
@exists(order_queries.look_for_order)
@blp.arguments(Empty())
@blp.response(200, OrderOut())
@fails(StrongerUser, OrderState)
@takes_key
def fulfil_order(_body: dict[str, Any], order_id: UUID) -> Response:
    """Note that an order was delivered, once."""
    actor = current_actor()
    return reply_once(
        lambda session: service.fulfil(session, actor=actor, order_id=order_id),
        _shown,
    )


@blp.route("/<uuid:order_id>/refund", methods=["POST"])
@requires("orders:refund")
@exists(order_queries.look_for_order)
@blp.arguments(RefundIn())
@blp.response(200, OrderOut())
@fails(SelfRefund, StrongerUser, OrderState, RefundExceedsPayment, BalanceLimit, LedgerFrozen)
@keyed
def refund_order(body: dict[str, Any], order_id: UUID) -> Response:
    """Give a part of a payment back, or all that is left of it."""
    actor = current_actor()
    return reply_once(
        lambda session: service.refund(session, actor=actor, order_id=order_id, **body), _shown
    )


def _wire(order: Order) -> dict[str, Any]:
    return {**_head.one(order), "items": order["items"]}


def _placed(order: Order) -> Answer:
    return http.answer(
        _wire(order),
        status=201,
        location=f"/api/v1/orders/{order['id']}",
        etag=order["version"],
    )


def _shown(order: Order) -> Answer:
    return http.answer(_wire(order), etag=order["version"])
