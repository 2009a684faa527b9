"""Makes and reads the one-time tokens of mails: the mail's id and an HMAC over id and kind.

A token of one kind is none of another. Whether it was used and until when it is good, its row says.
"""

import base64
import hmac
from collections.abc import Iterable
from uuid import UUID

from app.keys import master
from app.mail.errors import InvalidToken
from app.mail.values import Kind

_LABEL = "mail token"
_ID_BYTES = 16
_LENGTH = 64  # Of 48 bytes in base64, which is exact: no two spellings of one token.


def make(mail_id: UUID, kind: Kind) -> str:
    """Return the token of a mail; the same one for the same arguments and master key."""
    mac = _mac(mail_id, kind, master.current_version())
    return base64.urlsafe_b64encode(mail_id.bytes + mac).decode()


def read(token: str, kinds: Iterable[Kind]) -> tuple[UUID, Kind]:
    """Return the mail that a token of ours belongs to, and which of the kinds it is.

    Made under any master key that is known.

    Raises InvalidToken.
    """
    if len(token) != _LENGTH:
        raise InvalidToken
    try:
        packed = base64.b64decode(token, altchars=b"-_", validate=True)
    except ValueError as error:
        raise InvalidToken from error
    mail_id, mac = UUID(bytes=packed[:_ID_BYTES]), packed[_ID_BYTES:]
    for kind in kinds:
        for version in master.versions():
            if hmac.compare_digest(mac, _mac(mail_id, kind, version)):
                return mail_id, kind
    raise InvalidToken


def _mac(mail_id: UUID, kind: Kind, version: int) -> bytes:
    key = master.derive(_LABEL, version=version)
    return hmac.digest(key, mail_id.bytes + kind.encode(), "sha256")
