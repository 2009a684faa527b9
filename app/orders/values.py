"""The fixed values of the catalogue and of orders: limits, states and the steps between them."""

from collections.abc import Mapping
from datetime import timedelta
from enum import StrEnum
from typing import Final

NAME_MIN, NAME_MAX = 1, 100
# SKUs and discount codes: what can be typed, printed and put into a URL as it is.
LABEL: Final = r"[A-Za-z0-9._-]{1,64}"
LABEL_MAX: Final = 64
PRICE_MAX: Final = 10**12
# Larger integers lose digits in JavaScript.
REDEMPTIONS_MAX: Final = 2**53 - 1

LIFETIME: Final = timedelta(hours=24)
MAX_ITEMS: Final = 100
MAX_QUANTITY: Final = 10_000
MAX_REASON: Final = 500
# What an account can hold: more could never be paid.
MAX_TOTAL: Final = 2**53 - 1


class OrderStatus(StrEnum):
    """The side of the payment; whether an order was delivered is told by `fulfilled_at`."""

    PLACED = "placed"
    PAID = "paid"
    PARTIALLY_REFUNDED = "partially_refunded"
    REFUNDED = "refunded"
    CANCELLED = "cancelled"


class CancelReason(StrEnum):
    """Who or what ended an order that nobody had paid."""

    BY_USER = "by_user"
    BY_STAFF = "by_staff"
    EXPIRED = "expired"


# From where each step leads; the database refuses any other (`guard_order_v1`).
TRANSITIONS: Final[Mapping[OrderStatus, frozenset[OrderStatus]]] = {
    OrderStatus.PLACED: frozenset({OrderStatus.PAID, OrderStatus.CANCELLED}),
    OrderStatus.PAID: frozenset({OrderStatus.PARTIALLY_REFUNDED, OrderStatus.REFUNDED}),
    OrderStatus.PARTIALLY_REFUNDED: frozenset(
        {OrderStatus.PARTIALLY_REFUNDED, OrderStatus.REFUNDED}
    ),
    OrderStatus.REFUNDED: frozenset(),
    OrderStatus.CANCELLED: frozenset(),
}
# What was paid for and not given back as a whole.
FULFILLABLE: Final = frozenset({OrderStatus.PAID, OrderStatus.PARTIALLY_REFUNDED})


def code_key(code: str) -> str:
    """Return what a discount's code is compared by: its case doesn't matter."""
    return code.casefold()
