"""What the catalogue and orders refuse.

Conflict ──────── SkuTaken               another product has this SKU
          ├────── CodeTaken              another discount has this code
          ├────── PriceChanged           the order costs something else than the client expects
          ├────── RefundExceedsPayment   more than is left of what was paid
          └─ InvalidState
             ├─── RedeemedMoreOften      the new maximum is below what was redeemed already
             └─── OrderState             the order is in a state that the step doesn't begin at
Unprocessable ─── DiscountNotApplicable  no such discount, or not now, or not any more
Forbidden ─────── SelfRefund             staff would refund themself
"""

from app.platform.errors import Conflict, Forbidden, InvalidState, Unprocessable


class SkuTaken(Conflict):
    """Another product has this SKU, active or not: orders may name it."""

    code, message = "SKU_TAKEN", "A product with this SKU exists already."


class CodeTaken(Conflict):
    """Another discount has this code, active or not, maybe in other case."""

    code, message = "CODE_TAKEN", "A discount with this code exists already."


class RedeemedMoreOften(InvalidState):
    """The discount was redeemed more often already than it shall be at most.

    `details` has `redeemed`: the lowest maximum that there can be.
    """

    message = "The discount was redeemed more often already."


class PriceChanged(Conflict):
    """The order would cost something else than `expected_total`; `details` has the `total`."""

    code, message = "PRICE_CHANGED", "The price has changed. Look at it again."


class RefundExceedsPayment(Conflict):
    """Less than that is left of what was paid; `details` has what is `refundable`."""

    code, message = "REFUND_EXCEEDS_PAYMENT", "That is more than is left of the payment."


class OrderState(InvalidState):
    """The order is in a state from which this step doesn't lead anywhere; `details` say which."""

    message = "The order isn't in the state for that."


class DiscountNotApplicable(Unprocessable):
    """There is no such code, or it isn't active, not yet or no longer valid, or used up."""

    code, message = "DISCOUNT_NOT_APPLICABLE", "This discount code can't be used."


class SelfRefund(Forbidden):
    """Nobody refunds an order of their own."""

    message = "Nobody refunds an order of their own."
