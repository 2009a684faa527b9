"""Use cases of credits: send, grant, charge, take back, try out."""

from collections.abc import Mapping, Sequence
from typing import Any, Final
from uuid import UUID

from sqlalchemy.orm import Session

from app.audit import service as audit
from app.audit.actions import Action
from app.credits import ledger, queries
from app.credits.errors import NotReversible, PayerNotFound, SelfGrant, SelfReversal
from app.credits.ledger import Sent, Transfer
from app.credits.values import REVERSIBLE, TransferKind
from app.platform import ids
from app.platform.actor import Actor
from app.platform.db import trial
from app.users import administration
from app.users import service as users

_RECORDED: Final = {
    TransferKind.GRANT: Action.GRANT_CREATED,
    TransferKind.CHARGE: Action.CHARGE_CREATED,
}


def transfer(
    session: Session, *, actor: Actor, to_user_id: UUID, amount: int, memo: str | None
) -> Transfer:
    """Move credits from the actor's account to another user's, in the caller's transaction.

    Raises SelfTransfer, RecipientNotFound, InsufficientCredits or BalanceLimit.
    """
    transfer_id = ids.new()
    audit.record(
        session,
        Action.TRANSFER_CREATED,
        actor=actor,
        subject_type="transfer",
        subject_id=transfer_id,
        details={"to_user_id": str(to_user_id), "amount": amount},
    )
    return ledger.post(
        session,
        transfer_id=transfer_id,
        kind=TransferKind.TRANSFER,
        from_user_id=actor.user_id,
        to_user_id=to_user_id,
        amount=amount,
        actor=actor,
        memo=memo,
    )


def transfer_all(
    session: Session, *, actor: Actor, transfers: Sequence[Mapping[str, Any]]
) -> list[Transfer]:
    """Make several transfers from the actor's account, all or none, in the caller's transaction.

    Each has `to_user_id`, `amount` and `memo`. Refusals say in `details` which one it was.

    Raises SelfTransfer, RecipientNotFound, InsufficientCredits or BalanceLimit.
    """
    if actor.user_id is None:
        raise PayerNotFound
    sent = [Sent(transfer_id=ids.new(), **each) for each in transfers]
    audit.record_each(
        session,
        Action.TRANSFER_CREATED,
        actor=actor,
        subject_type="transfer",
        subjects={
            each.transfer_id: {"to_user_id": str(each.to_user_id), "amount": each.amount}
            for each in sent
        },
    )
    return ledger.post_batch(session, from_user_id=actor.user_id, sent=sent, actor=actor)


def dry_run(*, actor: Actor, to_user_id: UUID, amount: int, memo: str | None) -> Transfer:
    """Return the transfer that would be made now, and leave nothing behind.

    The real function decides, in a transaction that is rolled back: it can't judge differently.

    Raises SelfTransfer, RecipientNotFound, InsufficientCredits or BalanceLimit.
    """
    with trial() as session:
        return transfer(session, actor=actor, to_user_id=to_user_id, amount=amount, memo=memo)


def grant(session: Session, *, actor: Actor, user_id: UUID, amount: int, memo: str) -> Transfer:
    """Make new credits for a user, in the caller's transaction.

    The user is the audit event's subject: it is staff's doing, and shows in the user's history.

    Raises SelfGrant, StrongerUser, RecipientNotFound or BalanceLimit.
    """
    if actor.user_id == user_id:
        raise SelfGrant
    administration.refuse_stronger(actor, users.roles(session, user_id))
    return _post_for_user(
        session,
        TransferKind.GRANT,
        actor=actor,
        user_id=user_id,
        to_user_id=user_id,
        amount=amount,
        memo=memo,
    )


def charge(session: Session, *, actor: Actor, user_id: UUID, amount: int, memo: str) -> Transfer:
    """Take credits from a user for the house's revenue, in the caller's transaction.

    The user is the audit event's subject, as with a grant. Whoever may charge may charge themself.

    Raises StrongerUser, PayerNotFound or InsufficientCredits.
    """
    # An API key that may do less than its owner still acts for them.
    if user_id != actor.user_id:
        administration.refuse_stronger(actor, users.roles(session, user_id))
    return _post_for_user(
        session,
        TransferKind.CHARGE,
        actor=actor,
        user_id=user_id,
        from_user_id=user_id,
        amount=amount,
        memo=memo,
    )


def reverse(session: Session, *, actor: Actor, transfer_id: UUID, reason: str) -> Transfer:
    """Take a grant, transfer or charge back, whole and once, in the caller's transaction.

    It always posts, whatever has become of the users, as long as the receiver hasn't spent it.

    Raises NotFound, SelfReversal, StrongerUser, NotReversible, AlreadyReversed,
    InsufficientCredits or BalanceLimit.
    """
    original = queries.transfer_for_staff(session, transfer_id)
    sender, receiver = original["from_user_id"], original["to_user_id"]
    for user_id in filter(None, (sender, receiver)):
        if user_id == actor.user_id:
            raise SelfReversal
        administration.refuse_stronger(actor, users.roles(session, user_id))
    if original["kind"] not in REVERSIBLE:
        raise NotReversible
    reversal_id = ids.new()
    audit.record(
        session,
        Action.TRANSFER_REVERSED,
        actor=actor,
        subject_type="transfer",
        subject_id=transfer_id,
        details={"reversal_id": str(reversal_id), "amount": original["amount"]},
    )
    return ledger.post(
        session,
        transfer_id=reversal_id,
        kind=TransferKind.REVERSAL,
        from_user_id=receiver,
        to_user_id=sender,
        house_id=original["from_account_id" if sender is None else "to_account_id"],
        amount=original["amount"],
        actor=actor,
        memo=reason,
        reverses_id=transfer_id,
    )


def _post_for_user(
    session: Session,
    kind: TransferKind,
    *,
    actor: Actor,
    user_id: UUID,
    from_user_id: UUID | None = None,
    to_user_id: UUID | None = None,
    amount: int,
    memo: str,
) -> Transfer:
    """Post what staff or an app's server does about a user, who is the audit event's subject."""
    transfer_id = ids.new()
    audit.record(
        session,
        _RECORDED[kind],
        actor=actor,
        subject_type="user",
        subject_id=user_id,
        details={"transfer_id": str(transfer_id), "amount": amount},
    )
    return ledger.post(
        session,
        transfer_id=transfer_id,
        kind=kind,
        from_user_id=from_user_id,
        to_user_id=to_user_id,
        amount=amount,
        actor=actor,
        memo=memo,
    )
