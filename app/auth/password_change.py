"""Use case of changing one's password, which ends every other login session."""

from dataclasses import dataclass, field

from sqlalchemy.orm import Session

from app.audit import service as audit
from app.audit.actions import Action
from app.auth import sessions
from app.auth.errors import InvalidCredentials
from app.auth.recovery import VOIDED
from app.auth.values import EndReason
from app.mail import service as mail
from app.mail.values import Kind
from app.platform import clock
from app.platform.actor import Actor
from app.platform.db import transaction
from app.platform.idempotency import Outdated
from app.users import passwords
from app.users import service as users
from app.users.errors import WeakPassword
from app.users.models import UserRow


@dataclass(slots=True, kw_only=True)
class PasswordChange:
    """One change of the actor's own password: hashed by `prepare`, written by `apply`."""

    actor: Actor
    current_password: str = field(repr=False)
    new_password: str = field(repr=False)
    _read: UserRow = field(init=False, repr=False)
    _new_hash: str = field(init=False, repr=False)

    def prepare(self) -> None:
        """Check the current password, and hash the new one. A wrong guess is audited.

        The caller counts it.

        Raises InvalidCredentials, WeakPassword, Overloaded or Unavailable.
        """
        user = confirm(self.current_password, actor=self.actor)
        if self.new_password == self.current_password:
            raise WeakPassword("This is the password that you have. Take another one.")
        self._new_hash = passwords.hash_new_password(
            self.new_password, email=user.email, name=user.name
        )
        self._read = user

    def apply(self, session: Session) -> None:
        """Put the new password in the current one's place, in the caller's transaction.

        Compare and swap: of many changes at once one wins, and the others are prepared again, which
        finds that the current password is another one by now. So is one that a login has overtaken
        by renewing the hash.

        Raises Outdated or Unauthenticated.
        """
        # From here on the user's row is ours, and a new login session waits for it.
        if not users.hold_credentials(
            session, read=self._read, new_hash=self._new_hash, changed_at=clock.now()
        ):
            raise Outdated
        # Whoever was signed out while we waited for the row doesn't sign out the others.
        user_id = sessions.owner_of_current(session, self.actor)
        audit.record(
            session,
            Action.CREDENTIAL_CHANGED,
            actor=self.actor,
            subject_type="user",
            subject_id=user_id,
        )
        sessions.end_all(
            session,
            actor=self.actor,
            user_id=user_id,
            reason=EndReason.CREDENTIAL,
            but=self.actor.session_id,
        )
        mail.close(session, user_id=user_id, kinds=VOIDED)
        mail.request(session, Kind.CREDENTIAL_CHANGED, user_id=user_id)


def confirm(password: str, *, actor: Actor) -> UserRow:
    """Check the actor's normalised current password, and return the credentials as read.

    A wrong guess is audited; the caller counts it.

    Raises InvalidCredentials, Overloaded or Unavailable.
    """
    user = users.get_credentials(actor.user_id)
    if passwords.verify(password, user.password_hash):
        return user
    # In a transaction of its own: decided before, raised after.
    with transaction() as session:
        audit.record(
            session,
            Action.CREDENTIAL_REFUSED,
            actor=actor,
            subject_type="user",
            subject_id=actor.user_id,
        )
    raise InvalidCredentials("The current password is wrong.")
