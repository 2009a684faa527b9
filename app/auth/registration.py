"""Use cases of signing up, in the open or in private.

In private nobody learns whether an address has an account: whatever is asked for, one row is
written, and the worker writes to the address. Only who reads that mail becomes a user.
"""

from typing import Final

from app.auth import throttling
from app.mail import service as mail
from app.mail.values import Kind
from app.platform import origin, ratelimit
from app.platform.actor import Actor
from app.platform.db import transaction
from app.platform.ratelimit import Limit, Subject
from app.platform.settings import Settings
from app.users import passwords
from app.users import service as users
from app.users.errors import EmailTaken, WeakPassword
from app.users.models import UserRow
from app.users.values import email_key

# Refused sign-ups, which cost a hash and tell which addresses are taken; others are given back.
BY_NETWORK: Final = Limit(name="register_address", amount=100, seconds=3600)
BY_IDENTITY: Final = Limit(name="register_identity", amount=10, seconds=15 * 60)
# Welcomes that one network address has sent, to whomever. As many as a full lecture hall signs up.
MAILS_BY_NETWORK: Final = Limit(name="register_mails", amount=300, seconds=3600)
_is_private = False


def configure(settings: Settings) -> None:
    """Sign up in the mode of the settings from now on."""
    global _is_private
    _is_private = settings.auth_signup_mode == "private"


def is_private() -> bool:
    """Tell whether nobody may learn who has an account."""
    return _is_private


def register(*, email: str, name: str, password: str, actor: Actor) -> UserRow | None:
    """Sign somebody up with checked values, and return the user; None in private.

    In the open the user is there at once, and gets a mail to verify the address.

    Raises TooManyRequests, WeakPassword, EmailTaken, Overloaded or Unavailable.
    """
    with ratelimit.counted(_limits(email, actor.address), kept=(WeakPassword, EmailTaken)):
        if _is_private:
            throttling.mail_to(email, Kind.SIGN_UP, address=actor.address)
        else:
            _count_mail(actor.address)
        password_hash = passwords.hash_new_password(password, email=email, name=name)
        with transaction() as session:
            if _is_private:
                # The same for everybody: what is known of the address, the worker finds out.
                facts = {"name": name, "password_hash": password_hash}
                mail.request(session, Kind.SIGN_UP, email=email, facts=facts)
                return None
            if mail.is_kept(session, email):
                raise EmailTaken
            user = users.create_user(
                session,
                email=email,
                name=name,
                password_hash=password_hash,
                roles=(),
                actor=actor,
            )
            mail.request(session, Kind.VERIFY, user_id=user.id)
            return user


def _count_mail(address: str | None) -> None:
    """Count a sign-up, which sends a mail to an address that may be anybody's.

    Raises TooManyRequests.
    """
    network = origin.network(address)
    if network is not None:
        ratelimit.take(MAILS_BY_NETWORK, network)


def _limits(email: str, address: str | None) -> list[tuple[Limit, Subject]]:
    network = origin.network(address)
    by_network: list[tuple[Limit, Subject]] = [] if network is None else [(BY_NETWORK, (network,))]
    return [*by_network, (BY_IDENTITY, (email_key(email),))]
