"""Limits how often passwords are guessed: counted before the hash, given back when it was no guess.

A stranger is counted by network address, by both address and identity, and by identity, which is
the address that is signed in with, whether somebody has it or not. A device that the user signed in
from before is counted by itself alone: whoever uses up a user's allowance doesn't lock out the
owner.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from uuid import UUID

from app.auth.errors import InvalidCredentials
from app.mail.values import Kind
from app.platform import origin, ratelimit
from app.platform.errors import IdempotencyKeyReused
from app.platform.ratelimit import Limit, Subject
from app.users.values import email_key

SECONDS = 15 * 60

# These renew: there is no interval of 15 minutes at all with more guesses than this.
BY_IDENTITY = Limit(name="sign_in_identity", amount=10, seconds=SECONDS, renews=True)
BY_DEVICE = Limit(name="sign_in_device", amount=10, seconds=SECONDS, renews=True)
BY_SESSION = Limit(name="password_session", amount=10, seconds=SECONDS, renews=True)
# Mails to one address, whether somebody has it or not, and those that one network address asks for.
MAIL_BY_IDENTITY = Limit(name="mail_identity", amount=5, seconds=3600)
MAIL_BY_ADDRESS = Limit(name="mail_address", amount=30, seconds=3600)
# These don't. Behind one address there may be thousands of people, of whom somebody always
# mistypes: renewed again and again it would end by keeping all of them out. And a guess that the
# identity's limit refuses is given back here, which can't give back the time that it renewed.
BY_ADDRESS = Limit(name="sign_in_address", amount=100, seconds=SECONDS)
BY_BOTH = Limit(name="sign_in_both", amount=5, seconds=SECONDS)


@contextmanager
def sign_in(*, email: str, address: str | None, device_id: UUID | None) -> Iterator[None]:
    """Count an attempt to sign in while it is decided; `device_id` is a known device of the user.

    Raises TooManyRequests.
    """
    if device_id is not None:
        wanted: list[tuple[Limit, Subject]] = [(BY_DEVICE, (device_id,))]
    else:
        identity, network = email_key(email), origin.network(address)
        # The identity comes last, and so an address that is through with it can't use it up.
        wanted = [(BY_IDENTITY, (identity,))]
        if network is not None:
            wanted = [(BY_ADDRESS, (network,)), (BY_BOTH, (network, identity)), *wanted]
    with ratelimit.counted(wanted, kept=(InvalidCredentials,)):
        yield


@contextmanager
def confirming(*, user_id: UUID, session_id: UUID | None) -> Iterator[None]:
    """Count an attempt of somebody signed in to show the current password.

    By login session: whoever has stolen the access token of one keeps nobody from the others. That
    a request was repeated with other passwords says whether the first ones were right, and counts.

    Raises TooManyRequests.
    """
    limits = [(BY_SESSION, (user_id, session_id or user_id))]
    with ratelimit.counted(limits, kept=(InvalidCredentials, IdempotencyKeyReused)):
        yield


def mail_to(email: str, kind: Kind, *, address: str | None) -> None:
    """Count a mail that somebody asks for, to an address that somebody has or not.

    Each kind by itself: nobody keeps others from signing up by asking for new passwords.

    Raises TooManyRequests.
    """
    network = origin.network(address)
    wanted: list[tuple[Limit, Subject]] = [(MAIL_BY_IDENTITY, (kind, email_key(email)))]
    if network is not None:
        wanted = [(MAIL_BY_ADDRESS, (network,)), *wanted]
    ratelimit.take_all(wanted)
