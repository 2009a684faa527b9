"""What the ledger refuses.

PaymentRequired ── InsufficientCredits   the sender's account doesn't hold enough
NotFound ─┬─────── RecipientNotFound     nobody there to receive
          └─────── PayerNotFound         nobody there to be charged
Conflict ─┬─────── BalanceLimit          the recipient's account would hold too much
          ├─────── NotReversible         no grant, transfer or charge
          └─────── AlreadyReversed       taken back before
InvalidState ─┬─── HoldEnded             captured, released, expired or past its time
              ├─── AlreadyFrozen         an operator freezes what is frozen
              └─── NotFrozen             an operator unfreezes what isn't
Unprocessable ──── SelfTransfer          sender and recipient are the same user
Forbidden ─┬────── SelfGrant             staff would grant to themself
           ├────── SelfReversal          staff would take back what they sent or got
           └────── OthersHold            it is for whoever placed the hold to end it
Unavailable ────── LedgerFrozen          the books don't add up: nothing is posted
"""

from app.platform.errors import (
    Conflict,
    Forbidden,
    InvalidState,
    NotFound,
    PaymentRequired,
    Unavailable,
    Unprocessable,
)


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


class NotReversible(Conflict):
    """Only grants, transfers and charges are taken back; payments by the order's refund."""

    code, message = "NOT_REVERSIBLE", "A transfer of this kind can't be reversed."


class AlreadyReversed(Conflict):
    """A transfer is taken back once."""

    code, message = "ALREADY_REVERSED", "This transfer is reversed already."


class HoldEnded(InvalidState):
    """The hold was captured, released or expired, or its time is over."""

    message = "This hold is not held any more."


class AlreadyFrozen(InvalidState):
    """The books are frozen already, and keep the first reason."""

    message = "The ledger is frozen already."


class NotFrozen(InvalidState):
    """The books aren't frozen."""

    message = "The ledger isn't frozen."


class SelfReversal(Forbidden):
    """Nobody takes back a transfer that they sent or received themself."""

    message = "Nobody reverses a transfer of their own."


class OthersHold(Forbidden):
    """The account's owner sees a hold of somebody else, and doesn't end it."""

    message = "Only who placed this hold may end it."


class LedgerFrozen(Unavailable):
    """The books didn't add up, twice: nothing is posted until an operator says otherwise."""

    code, message = "LEDGER_FROZEN", "The ledger is closed for a check. Reading goes on."
