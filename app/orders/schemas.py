"""What orders look like on the wire."""

from marshmallow import Schema, fields, validate

from app.orders.labels import Label
from app.orders.values import (
    MAX_ITEMS,
    MAX_QUANTITY,
    MAX_REASON,
    MAX_TOTAL,
    CancelReason,
    OrderStatus,
)
from app.platform.fields import Credits, Text, Time, Whole
from app.platform.pagination import PageQuery

_STATUS = validate.OneOf([status.value for status in OrderStatus])
_REASON = validate.OneOf([reason.value for reason in CancelReason])
_PRODUCT_ID = "01936f3a-77aa-7c01-8a53-0d1e2f3a4b5c"
_USER_ID = "01936f3a-1b2c-7a10-8c4d-2e5f7a9b0c3d"


class OrderItemIn(Schema):
    """A product and how many of it."""

    sku = Label("coffee", required=True)
    quantity = Whole(1, MAX_QUANTITY, required=True, metadata={"example": 2})


class OrderIn(Schema):
    """An order. With `expected_total` it is only placed if it costs exactly that."""

    items = fields.List(
        fields.Nested(OrderItemIn()), required=True, validate=validate.Length(1, MAX_ITEMS)
    )
    discount_code = Label("SPRING", load_default=None)
    expected_total = Whole(0, MAX_TOTAL, load_default=None, metadata={"example": 900})


class RefundIn(Schema):
    """How much to give back, all that is left without an amount, and why."""

    amount = Credits(load_default=None, metadata={"example": 100})
    reason = Text(1, MAX_REASON, required=True, metadata={"example": "Arrived broken"})


class OrderFilter(Schema):
    """Which orders to export."""

    status = fields.String(validate=_STATUS)
    user_id = fields.UUID()
    created_after = Time()


class OrderQuery(PageQuery, OrderFilter):
    """Which orders to list."""


class OrderItemOut(Schema):
    """A product of an order, as it was when that was placed."""

    product_id = fields.UUID(metadata={"example": _PRODUCT_ID})
    sku = fields.String(metadata={"example": "coffee"})
    name = fields.String(metadata={"example": "Coffee"})
    unit_price = fields.Integer(metadata={"example": 500})
    quantity = fields.Integer(metadata={"example": 2})
    total = fields.Integer(metadata={"example": 1000})


class OrderHeadOut(Schema):
    """An order without its items."""

    id = fields.UUID()
    user_id = fields.UUID(metadata={"example": _USER_ID})
    status = fields.String(validate=_STATUS)
    subtotal = fields.Integer(metadata={"example": 1000})
    discount = fields.Integer(metadata={"example": 100})
    total = fields.Integer(metadata={"example": 900})
    refunded = fields.Integer(metadata={"example": 0})
    created_at = Time()
    expires_at = Time()
    paid_at = Time(allow_none=True)
    fulfilled_at = Time(allow_none=True)
    cancelled_at = Time(allow_none=True)
    cancel_reason = fields.String(allow_none=True, validate=_REASON)


class OrderOut(OrderHeadOut):
    """An order. What was paid and not `refunded` is what it has cost."""

    items = fields.List(fields.Nested(OrderItemOut()))


class OrderListOut(Schema):
    """A page of orders, newest first."""

    items = fields.List(fields.Nested(OrderOut()))
    next_cursor = fields.String(allow_none=True)
