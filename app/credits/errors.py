"""What the ledger refuses.

PaymentRequired ── InsufficientCredits   the sender's account doesn't hold enough
NotFound ─┬─────── RecipientNotFound     nobody there to receive
          └─────── PayerNotFound         nobody there to be charged
Conflict ───────── BalanceLimit          the recipient's account would hold too much
Unprocessable ──── SelfTransfer          sender and recipient are the same user
Forbidden ──────── SelfGrant             staff would grant to themself
"""

from app.platform.errors import Conflict, Forbidden, NotFound, PaymentRequired, Unprocessable


class InsufficientCredits(PaymentRequired):
    """The account holds less than the amount, or what it holds is set aside.

    `details` has `available` and `required`, only when the account is the actor's own.
    """


class RecipientNotFound(NotFound):
    """The recipient doesn't exist, is being deleted or is erased: all look the same."""

    message = "There is no such recipient."


class PayerNotFound(NotFound):
    """Whom to charge doesn't exist, is being deleted or is erased: all look the same."""

    message = "There is no such user."


class BalanceLimit(Conflict):
    """The recipient's balance would go above 2^53-1."""

    code, message = "BALANCE_LIMIT", "The recipient's account can't hold that much."


class SelfTransfer(Unprocessable):
    """Sender and recipient are the same user."""

    code, message = "SELF_TRANSFER", "Credits can't be sent to oneself."


class SelfGrant(Forbidden):
    """Staff grants to others only, whatever their permissions."""

    message = "Nobody grants credits to themself."
