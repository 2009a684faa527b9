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
from app.platform import ratelimit
from app.platform.errors import AppError
from app.platform.ratelimit import Limit, Subject
from app.users.values import email_key

SECONDS = 15 * 60

# These renew: there is no interval of 15 minutes at all with more guesses than this.
BY_IDENTITY = Limit(name="sign_in_identity", amount=10, seconds=SECONDS, renews=True)
BY_BOTH = Limit(name="sign_in_both", amount=5, seconds=SECONDS, renews=True)
BY_DEVICE = Limit(name="sign_in_device", amount=10, seconds=SECONDS, renews=True)
BY_USER = Limit(name="password_user", amount=10, seconds=SECONDS, renews=True)
# This one doesn't. Behind one address there may be thousands of people, of whom somebody always
# mistypes: renewed again and again it would end by keeping all of them out.
BY_ADDRESS = Limit(name="sign_in_address", amount=100, seconds=SECONDS)


@contextmanager
def sign_in(*, email: str, address: str | None, device_id: UUID | None) -> Iterator[None]:
    """Count an attempt to sign in while it is decided; `device_id` is a known device of the user.

    Raises TooManyRequests.
    """
    if device_id is not None:
        wanted: list[tuple[Limit, Subject]] = [(BY_DEVICE, (device_id,))]
    else:
        identity, network = email_key(email), ratelimit.network(address)
        # The identity comes last, and so an address that is through with it can't use it up.
        wanted = [(BY_IDENTITY, (identity,))]
        if network is not None:
            wanted = [(BY_ADDRESS, (network,)), (BY_BOTH, (network, identity)), *wanted]
    with _counted(wanted):
        yield


@contextmanager
def confirming(*, user_id: UUID) -> Iterator[None]:
    """Count an attempt of somebody signed in to show the current password.

    Raises TooManyRequests.
    """
    with _counted([(BY_USER, (user_id,))]):
        yield


@contextmanager
def _counted(wanted: list[tuple[Limit, Subject]]) -> Iterator[None]:
    taken = ratelimit.take_all(wanted)
    try:
        yield
    except InvalidCredentials:
        raise
    except AppError:
        # Not decided, or decided by something else than the password.
        ratelimit.give_back(taken)
        raise
    ratelimit.give_back(taken)
