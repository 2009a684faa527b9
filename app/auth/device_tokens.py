"""Makes and reads device tokens: that somebody signed in as a user from this device before.

One proves nothing at sign-in. It only gives the device an allowance of its own there, so that a
stranger who uses up everybody else's can't keep the owner out.
"""

import base64
import hmac
import struct
from datetime import datetime, timedelta
from uuid import UUID

from app.keys import master
from app.keys.errors import UnknownMasterKey
from app.platform import clock

LIFETIME = timedelta(days=365)
_SECOND = timedelta(seconds=1)  # Their time is in whole ones.

_LABEL = "device token"
_PARTS = struct.Struct(">16s16sII")  # Device, user, issued at, master key version.
_MAC_BYTES = 32
_LENGTH = 96  # Of 72 bytes in base64.


def make_device_token(
    *, device_id: UUID, user_id: UUID, issued_at: datetime, password_changed_at: datetime | None
) -> str:
    """Return the device token; the same one for the same arguments and master key.

    A device that stayed signed in through a change of password gets one of after it.
    """
    version = master.current_version()
    if password_changed_at is not None:
        issued_at = max(issued_at, password_changed_at + _SECOND)
    parts = _PARTS.pack(device_id.bytes, user_id.bytes, int(issued_at.timestamp()), version)
    return base64.urlsafe_b64encode(parts + _mac(parts, version)).decode()


def known_device(
    token: str | None, *, user_id: UUID | None, password_changed_at: datetime | None
) -> UUID | None:
    """Return the device of a token that is good and this user's; None for any other.

    One from before the last change of password isn't good: whoever knew the password then could
    have made many, and each would bring its own allowance of guesses.
    """
    if token is None or len(token) != _LENGTH:
        return None
    try:
        packed = base64.b64decode(token, altchars=b"-_", validate=True)
        parts, mac = packed[:-_MAC_BYTES], packed[-_MAC_BYTES:]
        device, user, issued_at, version = _PARTS.unpack(parts)
        genuine = hmac.compare_digest(mac, _mac(parts, version))
    except (ValueError, struct.error, UnknownMasterKey):
        return None
    is_young = issued_at + LIFETIME.total_seconds() > clock.time()
    is_young &= password_changed_at is None or issued_at > password_changed_at.timestamp()
    return UUID(bytes=device) if genuine and is_young and UUID(bytes=user) == user_id else None


def _mac(parts: bytes, version: int) -> bytes:
    return hmac.digest(master.derive(_LABEL, version=version), parts, "sha256")
