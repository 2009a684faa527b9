"""What users, credits, holds and orders come to, in memory: a model that the service is held to.

It knows the rules from the contract and nothing of how they are kept. Each method does what one
request should, and returns the status and the error code that it should be answered with.
"""

from dataclasses import dataclass, field
from fractions import Fraction
from typing import Any

from tests.people import TestUser

OK, MADE = (200, None), (201, None)
SIGNED_OUT = (401, "UNAUTHENTICATED")
TOO_LITTLE = (402, "INSUFFICIENT_CREDITS")
NOBODY = (404, "NOT_FOUND")
WRONG_STATE = (409, "INVALID_STATE")
Expected = tuple[int, str | None]


@dataclass(eq=False)
class Account:
    """A user, and the lines of the user's account; the house is nobody."""

    user: TestUser
    balance: int = 0
    held: int = 0
    lines: list[int] = field(default_factory=list)
    left: bool = False

    @property
    def available(self) -> int:
        return self.balance - self.held


@dataclass(eq=False)
class Moved:
    """A transfer that was answered; None is the house."""

    kind: str
    sender: Account | None
    recipient: Account | None
    amount: int
    reversed: bool = False
    id: str = ""


@dataclass(eq=False)
class Hold:
    """Credits that are set aside."""

    account: Account
    amount: int
    captured: int = 0
    status: str = "held"
    id: str = ""


@dataclass(eq=False)
class Code:
    """A discount."""

    code: str
    percent: str
    most: int
    redeemed: int = 0


@dataclass(eq=False)
class Order:
    """What somebody has ordered."""

    account: Account
    total: int
    code: Code | None
    refunded: int = 0
    status: str = "placed"
    fulfilled: bool = False
    id: str = ""


class Model:
    """Everything that there should be."""

    def __init__(self) -> None:
        self.holds: list[Hold] = []
        self.orders: list[Order] = []

    def move(self, moved: Moved) -> Expected:
        """Move credits, unless somebody isn't there or hasn't got them."""
        sender, recipient, amount = moved.sender, moved.recipient, moved.amount
        if moved.kind == "transfer" and sender is not None and sender.left:
            return SIGNED_OUT
        if sender is recipient:
            return 422, "SELF_TRANSFER"
        if moved.kind in ("transfer", "grant") and recipient is not None and recipient.left:
            return NOBODY
        if moved.kind == "charge" and sender is not None and sender.left:
            return NOBODY
        if sender is not None and sender.available < amount:
            return TOO_LITTLE
        _post(sender, -amount)
        _post(recipient, amount)
        return MADE

    def move_all(self, sender: Account, sent: list[tuple[Account, int]]) -> Expected:
        """Move to many at once: all or nothing."""
        if sender.left:
            return SIGNED_OUT
        # The first that can't be is what is told, but for what is missing in all.
        before = sender.available
        for recipient, amount in sent:
            if recipient is sender:
                return 422, "SELF_TRANSFER"
            if recipient.left:
                return NOBODY
            before -= amount
            if before < 0:
                return TOO_LITTLE
        for recipient, amount in sent:
            _post(sender, -amount)
            _post(recipient, amount)
        return MADE

    def reverse(self, moved: Moved) -> Expected:
        """Take a transfer back, whatever has become of the two."""
        if moved.kind not in ("grant", "transfer", "charge"):
            return 409, "NOT_REVERSIBLE"
        if moved.reversed:
            return 409, "ALREADY_REVERSED"
        if moved.recipient is not None and moved.recipient.available < moved.amount:
            return TOO_LITTLE
        moved.reversed = True
        _post(moved.recipient, -moved.amount)
        _post(moved.sender, moved.amount)
        return MADE

    def hold(self, hold: Hold) -> Expected:
        """Set credits aside."""
        account = hold.account
        if account.left:
            return SIGNED_OUT
        if account.available < hold.amount:
            return TOO_LITTLE
        account.held += hold.amount
        self.holds.append(hold)
        return MADE

    def capture(self, hold: Hold, amount: int | None) -> Expected:
        """Take what is set aside, or a part of it."""
        if hold.account.left:
            return SIGNED_OUT
        if hold.status != "held":
            return WRONG_STATE
        taken = hold.amount if amount is None else amount
        if taken > hold.amount:
            return 422, "VALIDATION_ERROR"
        hold.status, hold.captured = "captured", taken
        hold.account.held -= hold.amount
        _post(hold.account, -taken)
        return OK

    def release(self, hold: Hold) -> Expected:
        """Let go what is set aside."""
        if hold.account.left:
            return SIGNED_OUT
        if hold.status != "held":
            return WRONG_STATE
        hold.status = "released"
        hold.account.held -= hold.amount
        return OK

    def place(self, order: Order, subtotal: int) -> Expected:
        """Place an order, at its discount if that is there for the taking."""
        code = order.code
        if order.account.left:
            return SIGNED_OUT
        if code is not None and code.redeemed == code.most:
            return 422, "DISCOUNT_NOT_APPLICABLE"
        if code is not None:
            code.redeemed += 1
        off = Fraction(subtotal) * Fraction(code.percent if code else "0") / 100
        order.total = subtotal - int(off + Fraction(1, 2))
        self.orders.append(order)
        return MADE

    def pay(self, order: Order) -> Expected:
        """Pay an order."""
        if order.account.left:
            return SIGNED_OUT
        if order.status != "placed":
            return WRONG_STATE
        if order.account.available < order.total:
            return TOO_LITTLE
        order.status = "paid"
        if order.total:
            _post(order.account, -order.total)
        return OK

    def cancel(self, order: Order) -> Expected:
        """Cancel an order that isn't paid."""
        if order.account.left:
            return SIGNED_OUT
        if order.status != "placed":
            return WRONG_STATE
        _cancel(order)
        return OK

    def fulfil(self, order: Order) -> Expected:
        """Deliver an order, once."""
        if order.fulfilled or order.status not in ("paid", "partially_refunded"):
            return WRONG_STATE
        order.fulfilled = True
        return OK

    def refund(self, order: Order, amount: int | None) -> Expected:
        """Give a part of a payment back, or all that is left."""
        if order.status in ("placed", "cancelled"):
            return WRONG_STATE
        left = order.total - order.refunded
        back = left if amount is None else amount
        if not 0 < back <= left:
            return 409, "REFUND_EXCEEDS_PAYMENT"
        order.refunded += back
        order.status = "refunded" if back == left else "partially_refunded"
        _post(order.account, back)
        return OK

    def leave(self, account: Account, *, forfeit: bool) -> Expected:
        """Let a user go, who has settled everything or gives it up."""
        if account.left:
            return SIGNED_OUT
        holds = [one for one in self.holds if one.account is account and one.status == "held"]
        unpaid = [one for one in self.orders if one.account is account and one.status == "placed"]
        if (account.balance or holds or unpaid) and not forfeit:
            return 409, "ACCOUNT_NOT_SETTLED"
        for hold in holds:
            self.release(hold)
        for order in unpaid:
            _cancel(order)
        if account.balance:
            _post(account, -account.balance)
        account.left = True
        return 202, None


def shown(order: Order) -> dict[str, Any]:
    """Return what of an order the service must show."""
    return {"status": order.status, "total": order.total, "refunded": order.refunded}


def _cancel(order: Order) -> None:
    order.status = "cancelled"
    if order.code is not None:
        order.code.redeemed -= 1


def _post(account: Account | None, amount: int) -> None:
    if account is not None:
        account.balance += amount
        account.lines.append(amount)
