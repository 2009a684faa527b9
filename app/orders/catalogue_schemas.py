"""Products and discounts on the wire."""

from typing import Any

from marshmallow import Schema, ValidationError, fields

from app.orders import pricing
from app.orders.labels import Label
from app.orders.values import (
    NAME_MAX,
    NAME_MIN,
    PRICE_MAX,
    REDEMPTIONS_MAX,
)
from app.platform.fields import Flag, Text, Time, Whole
from app.platform.pagination import PageQuery

_PRODUCT_ID = "01936f3a-7d2e-7b51-8f3c-4a6d9e1b0c25"
_DISCOUNT_ID = "01936f3a-9a41-7c08-b2d7-5e8f0a3c6b19"


class Percent(fields.String):
    """A percent as a decimal string, `0.01` to `100.00`; hundredths of a percent inside."""

    def __init__(self, **kwargs: Any) -> None:
        """Take marshmallow's field options."""
        metadata = {"pattern": f"^({pricing.PERCENT})$", "example": "12.50"}
        super().__init__(metadata=metadata, **kwargs)

    def _deserialize(self, value: Any, attr: str | None, data: Any, **kwargs: Any) -> Any:
        try:
            return pricing.hundredths(super()._deserialize(value, attr, data, **kwargs))
        except ValueError as error:
            raise ValidationError(
                'Must be a string from "0.01" to "100.00", with two decimals at most.'
            ) from error


class ProductIn(Schema):
    """What can be bought from now on."""

    sku = Label("course-1", required=True)
    name = Text(NAME_MIN, NAME_MAX, required=True, metadata={"example": "First course"})
    price = Whole(0, PRICE_MAX, required=True, metadata={"example": 999})
    active = Flag(load_default=True)


class ProductPatchIn(Schema):
    """What to change of a product. Orders keep what they were made with."""

    sku = Label("course-1")
    name = Text(NAME_MIN, NAME_MAX, metadata={"example": "First course"})
    price = Whole(0, PRICE_MAX, metadata={"example": 999})
    active = Flag()


class ProductOut(Schema):
    """What can be bought, while it is active. The price is of one, before any discount."""

    id = fields.UUID(metadata={"example": _PRODUCT_ID})
    sku = fields.String(metadata={"example": "course-1"})
    name = fields.String(metadata={"example": "First course"})
    price = fields.Integer(metadata={"example": 999})
    active = fields.Boolean()


class ProductListOut(Schema):
    """A page of products, by SKU."""

    items = fields.List(fields.Nested(ProductOut))
    next_cursor = fields.String(allow_none=True)


class ProductListQuery(PageQuery):
    """Which products to list."""

    name = Text(NAME_MIN, NAME_MAX, metadata={"description": "A part of the name, in any case."})
    active = fields.Boolean(
        load_default=True,
        truthy={"true"},
        falsy={"false"},
        metadata={"description": "Those that can be bought, or those that can't."},
    )


class DiscountIn(Schema):
    """What takes a part off an order from now on. Null: any number of times, from or for ever."""

    code = Label("SPRING-26", required=True)
    percent = Percent(required=True)
    max_redemptions = Whole(
        1, REDEMPTIONS_MAX, load_default=None, allow_none=True, metadata={"example": 100}
    )
    starts_at = Time(load_default=None, allow_none=True)
    ends_at = Time(load_default=None, allow_none=True)
    active = Flag(load_default=True)


class DiscountPatchIn(Schema):
    """What to change of a discount. Orders keep what they were made with."""

    code = Label("SPRING-26")
    percent = Percent()
    max_redemptions = Whole(1, REDEMPTIONS_MAX, allow_none=True, metadata={"example": 100})
    starts_at = Time(allow_none=True)
    ends_at = Time(allow_none=True)
    active = Flag()


class DiscountOut(Schema):
    """What takes a part off an order while it is active, within its time and not used up."""

    id = fields.UUID(metadata={"example": _DISCOUNT_ID})
    code = fields.String(metadata={"example": "SPRING-26"})
    percent = fields.String(metadata={"example": "12.50"})
    max_redemptions = fields.Integer(allow_none=True, metadata={"example": 100})
    redeemed = fields.Integer(metadata={"example": 7})
    starts_at = Time(allow_none=True)
    ends_at = Time(allow_none=True)
    active = fields.Boolean()


class DiscountListOut(Schema):
    """A page of discounts, by code."""

    items = fields.List(fields.Nested(DiscountOut))
    next_cursor = fields.String(allow_none=True)
