"""Use cases of deletion: a user goes, or is let go by staff; 30 days later they are erased."""

from collections.abc import Collection
from dataclasses import dataclass, field
from typing import Final
from uuid import UUID

from sqlalchemy.orm import Session

from app.audit import service as audit
from app.audit.actions import Action
from app.auth import notices, password_change, sessions
from app.auth.values import EndReason
from app.credits import holds, ledger
from app.credits.errors import HoldEnded
from app.credits.ledger import Locked
from app.credits.values import TransferKind
from app.mail import service as mail
from app.mail.values import LIFETIMES, Kind
from app.orders import cancellation
from app.platform import clock, ids
from app.platform.actor import Actor
from app.platform.errors import InvalidState, PreconditionFailed, Unauthenticated
from app.platform.idempotency import Outdated
from app.support.errors import AccountNotSettled, SelfDeletion
from app.support.values import UNDOABLE
from app.users import administration
from app.users import service as users
from app.users.models import UserRow
from app.users.values import Status

# All but those that take something back. Whoever took over an account by another address may also
# have it deleted: its owner, at the address before, has both taken back by one link.
_CLOSED: Final = tuple(set(LIFETIMES) - {Kind.DELETION, Kind.CHANGE_NOTICE})


@dataclass(slots=True, kw_only=True)
class OwnDeletion:
    """The deletion of the actor by themself: `prepare` checks the password, `apply` begins it."""

    actor: Actor
    password: str = field(repr=False)
    forfeit: bool
    _read: UserRow = field(init=False, repr=False)

    def prepare(self) -> None:
        """Check the password. A wrong guess is audited; the caller counts it.

        Raises InvalidCredentials, Overloaded or Unavailable.
        """
        self._read = password_change.confirm(self.password, actor=self.actor)

    def apply(self, session: Session) -> None:
        """Begin the deletion, in the caller's transaction.

        Raises Outdated, Unauthenticated, LastAdmin or AccountNotSettled.
        """
        user = users.hold_user(session, self.actor.user_id)
        # The password may be another one by now, or its hash a renewed one.
        if not users.hold_credentials(session, read=self._read, new_hash=None):
            raise Outdated
        # Whoever was signed out while we waited for the row deletes nobody.
        sessions.owner_of_current(session, self.actor)
        if user is None:
            raise Unauthenticated
        _begin(session, user, actor=self.actor, forfeit=self.forfeit)


def delete_for_staff(
    session: Session,
    *,
    actor: Actor,
    user_id: UUID,
    versions: Collection[int] | None,
    forfeit: bool,
) -> None:
    """Begin the deletion of a user on behalf of staff, in the caller's transaction.

    `versions` are those that the caller knows of; None: any.

    Raises SelfDeletion, NotFound, StrongerUser, InvalidState, PreconditionFailed, LastAdmin or
    AccountNotSettled.
    """
    if actor.user_id == user_id:
        raise SelfDeletion
    user = administration.hold_for_staff(session, actor=actor, user_id=user_id)
    if user.status == Status.DELETING:
        raise InvalidState("This user is being deleted already.")
    if versions is not None and user.version not in versions:
        raise PreconditionFailed
    _begin(session, user, actor=actor, forfeit=forfeit)


def _begin(session: Session, user: UserRow, *, actor: Actor, forfeit: bool) -> None:
    """Shut the user, whose row is held, out everywhere, and settle the account."""
    now = clock.now()
    audit.record(
        session,
        Action.DELETION_STARTED,
        actor=actor,
        subject_type="user",
        subject_id=user.id,
        details={"was": user.status},
    )
    sessions.end_all(session, actor=actor, user_id=user.id, reason=EndReason.DELETED)
    mail.close(session, user_id=user.id, kinds=_CLOSED)
    notices.deletion(
        session,
        user_id=user.id,
        on=now + UNDOABLE,
        was=user.status,
        until=user.suspended_until,
    )
    if forfeit:
        cancellation.cancel_all(session, actor=actor, user_id=user.id)
        _let_go(session, user, actor=actor)
    placed = cancellation.count_placed(session, user_id=user.id)
    # The account is the last thing that is locked, and from before the status changes: a posting
    # reads the status under the same lock. So credits that are under way either arrive before this,
    # and are counted, or find nobody.
    account = ledger.lock_account(session, user_id=user.id)
    administration.set_deleting(session, user_id=user.id, since=now)
    _settle(session, user, account, placed, actor=actor, forfeit=forfeit)


def _let_go(session: Session, user: UserRow, *, actor: Actor) -> None:
    """Free what is set aside; what runs out just then is for the next attempt."""
    try:
        holds.release_all(session, actor=actor, user_id=user.id)
    except HoldEnded as error:
        raise Outdated from error


def _settle(
    session: Session,
    user: UserRow,
    account: Locked,
    placed: int,
    *,
    actor: Actor,
    forfeit: bool,
) -> None:
    if account.held and forfeit:
        # Placed between the look at the holds and the lock on the account.
        raise Outdated
    if account.held or placed or (account.balance and not forfeit):
        own = actor.user_id == user.id
        held = {"balance": account.balance, "held": account.held, "orders": placed}
        raise AccountNotSettled(details=held if own else None)
    if not account.balance:
        return
    transfer_id = ids.new()
    audit.record(
        session,
        Action.CREDITS_FORFEITED,
        actor=actor,
        subject_type="user",
        subject_id=user.id,
        details={"transfer_id": str(transfer_id), "amount": account.balance},
    )
    ledger.post(
        session,
        transfer_id=transfer_id,
        kind=TransferKind.FORFEIT,
        from_user_id=user.id,
        to_user_id=None,
        amount=account.balance,
        actor=actor,
        memo=None,
    )
