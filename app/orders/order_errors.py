"""What orders are refused for.

Conflict ─┬────── PriceChanged             it costs something else than the client expects
          └────── RefundExceedsPayment     more than is left of what was paid
InvalidState ──── OrderState               the order is in a state that the step doesn't begin at
Unprocessable ─── DiscountNotApplicable    no such discount, or not now, or not any more
Forbidden ─────── SelfRefund               staff would refund themself
"""

from app.platform.errors import Conflict, Forbidden, InvalidState, Unprocessable


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
