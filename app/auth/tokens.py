"""Makes and reads access tokens (JWT, RFC 7519), refresh tokens and CSRF tokens."""

import base64
import hashlib
import hmac
import re
import struct
from collections.abc import Mapping
from contextvars import ContextVar
from dataclasses import dataclass
from datetime import timedelta
from typing import Any
from uuid import UUID

import flask_jwt_extended
import jwt
from flask_jwt_extended import JWTManager
from flask_jwt_extended.exceptions import JWTExtendedException

from app.auth.errors import InvalidRefreshToken
from app.keys import master
from app.keys import service as keys
from app.keys.errors import UnknownMasterKey
from app.keys.service import KeySet
from app.platform import clock
from app.platform.errors import Unauthenticated
from app.platform.settings import Settings

# A machine whose clock is a little behind must take what another one has just issued. The end of a
# token is looked at without it.
LEEWAY = timedelta(seconds=10)
# Ours have about 500 characters; nothing longer is worth parsing.
LONGEST_TOKEN = 4096
# RFC 7515 spells without padding: a token has one spelling, and the library would take two.
_SPELLING = re.compile(r"[A-Za-z0-9_-]+\.[A-Za-z0-9_-]+\.[A-Za-z0-9_-]+")
# The settings allow no more. An end in milliseconds, for instance, is no end at all.
LONGEST_LIFE = timedelta(days=1)
# About one megabyte a worker; the oldest go first, and none lives longer than its token.
MOST_REMEMBERED = 4096

_REFRESH_LABEL = "refresh token"
_CSRF_LABEL = "csrf token"
_REFRESH = struct.Struct(">16sQI32s")  # Login session, generation, master key version, HMAC.
_REFRESH_LENGTH = 80  # Of 60 bytes in base64, which is exact: no two spellings of one token.

_CLAIM_TYPES: Mapping[str, type] = {
    "sub": str, "sid": str, "jti": str, "iat": int, "exp": int, "iss": str, "aud": str,
    "roles": list, "gen": int, "type": str,
}  # fmt: skip
_signing: ContextVar[KeySet] = ContextVar("signing")


@dataclass(frozen=True, slots=True, kw_only=True)
class Claims:
    """What a good access token says: who, in which login session, until when (seconds)."""

    user_id: UUID
    session_id: UUID
    generation: int
    expires_at: int
    key_id: UUID | None  # None: a shared secret has none.


def configuration(settings: Settings) -> dict[str, Any]:
    """Return flask-jwt-extended's options; none that matters is left at its default."""
    return {
        "JWT_ALGORITHM": settings.auth_jwt_algorithm,
        "JWT_DECODE_ALGORITHMS": [settings.auth_jwt_algorithm],
        "JWT_TOKEN_LOCATION": ["headers"],
        # It would put a claim into each token that only tokens in cookies need.
        "JWT_COOKIE_CSRF_PROTECT": False,
        "JWT_ACCESS_TOKEN_EXPIRES": timedelta(seconds=settings.auth_access_seconds),
        "JWT_ENCODE_ISSUER": settings.auth_issuer,
        "JWT_DECODE_ISSUER": settings.auth_issuer,
        "JWT_ENCODE_AUDIENCE": settings.auth_audience,
        "JWT_DECODE_AUDIENCE": settings.auth_audience,
        "JWT_ENCODE_NBF": False,
        "JWT_DECODE_LEEWAY": LEEWAY,
    }


def use_key_ring(manager: JWTManager) -> None:
    """Have flask-jwt-extended sign and verify with the keys of the key ring."""

    @manager.encode_key_loader
    def signing_key(_identity: str) -> Any:
        return _signing.get().signing_key

    @manager.decode_key_loader
    def verifying_key(header: Mapping[str, Any], claims: Mapping[str, Any]) -> Any:
        # Here and not after decoding, because the library fills in a `type` that isn't there.
        if header.get("typ") != "JWT":
            raise jwt.InvalidTokenError("typ is another one")
        for name, kind in _CLAIM_TYPES.items():
            if type(claims.get(name)) is not kind:
                raise jwt.InvalidTokenError(f"{name} is missing or mistyped")
        key = keys.ring().find(header.get("kid"))
        if key is None:
            raise jwt.InvalidTokenError("kid is unknown")
        return key


def issue_access_token(
    *, user_id: UUID, session_id: UUID, generation: int, roles: frozenset[str]
) -> str:
    """Return a signed access token. `roles` are for clients to look at.

    Raises Unavailable.
    """
    # The key and its `kid` must come from one key set, and the library asks for them apart.
    key_set = keys.ring().signing()
    _signing.set(key_set)
    kid = {} if key_set.signing_kid is None else {"kid": key_set.signing_kid}
    token: str = flask_jwt_extended.create_access_token(
        str(user_id),
        additional_claims={"sid": str(session_id), "gen": generation, "roles": sorted(roles)},
        additional_headers=kid,
    )
    return token


class VerifiedTokens:
    """Remembers whose signatures were good, so that each is verified once in this process.

    Keyed by the token's SHA-256, bounded, and emptied when the key set is another one. The
    end of a token is looked at each time, and so is its key, by the request's one read.
    """

    def __init__(self) -> None:
        """Remember nothing yet."""
        self._claims: dict[bytes, Claims] = {}
        self._keys: KeySet | None = None

    def claims(self, token: str) -> Claims:
        """Return what a good access token says.

        Raises Unauthenticated or Unavailable.
        """
        if len(token) > LONGEST_TOKEN:
            raise Unauthenticated
        key_set = keys.ring().current()
        if key_set is not self._keys:
            self._claims.clear()
            self._keys = key_set
        digest = hashlib.sha256(token.encode()).digest()
        claims = self._claims.get(digest)
        if claims is None:
            claims = decode(token)
            # A dict keeps the order of insertion: its first key is the oldest.
            while len(self._claims) >= MOST_REMEMBERED:
                del self._claims[next(iter(self._claims))]
            self._claims[digest] = claims
        if claims.expires_at <= clock.time():
            self._claims.pop(digest, None)
            raise Unauthenticated
        return claims


verified = VerifiedTokens()


def decode(token: str) -> Claims:
    """Verify signature, issuer, audience, type and shape of an access token.

    Raises Unauthenticated or Unavailable.
    """
    if not _SPELLING.fullmatch(token):
        raise Unauthenticated
    try:
        claims = flask_jwt_extended.decode_token(token)
        if claims["type"] != "access":
            raise Unauthenticated
        if claims["exp"] - claims["iat"] > LONGEST_LIFE.total_seconds():
            raise Unauthenticated
        kid = jwt.get_unverified_header(token).get("kid")
        return Claims(
            user_id=UUID(claims["sub"]),
            session_id=UUID(claims["sid"]),
            generation=claims["gen"],
            expires_at=claims["exp"],
            key_id=kid and UUID(kid),
        )
    # A payload of thousands of brackets is a RecursionError, and a number too long a ValueError.
    except (jwt.PyJWTError, JWTExtendedException, ValueError, RecursionError) as error:
        raise Unauthenticated from error


@dataclass(frozen=True, slots=True, kw_only=True)
class RefreshToken:
    """The parts of a refresh token that has the right shape, and may still be forged."""

    session_id: UUID
    generation: int
    key_version: int
    mac: bytes

    def is_genuine(self, salt: bytes, *, newest: int) -> bool:
        """Tell whether we made it, given its login session's salt and newest generation."""
        if self.generation > newest:
            return False
        try:
            mac = _mac(self.session_id, self.generation, self.key_version, salt)
        except UnknownMasterKey:
            return False
        return hmac.compare_digest(mac, self.mac)


def make_refresh_token(*, session_id: UUID, generation: int, salt: bytes) -> str:
    """Return the refresh token of a generation; the same one for the same arguments and key."""
    version = master.current_version()
    mac = _mac(session_id, generation, version, salt)
    packed = _REFRESH.pack(session_id.bytes, generation, version, mac)
    return base64.urlsafe_b64encode(packed).decode()


def read_refresh_token(token: str) -> RefreshToken:
    """Return the parts of a refresh token; whether it is genuine is another question.

    Raises InvalidRefreshToken.
    """
    if len(token) != _REFRESH_LENGTH:
        raise InvalidRefreshToken
    try:
        packed = base64.b64decode(token, altchars=b"-_", validate=True)
        session_id, generation, version, mac = _REFRESH.unpack(packed)
    except (ValueError, struct.error) as error:
        raise InvalidRefreshToken from error
    return RefreshToken(
        session_id=UUID(bytes=session_id), generation=generation, key_version=version, mac=mac
    )


def make_csrf_token(*, session_id: UUID) -> str:
    """Return what a page proves with that it may use the refresh token in the browser's cookie.

    The same one for the whole life of the login session and a master key.
    """
    return _csrf_token(session_id, master.current_version())


def is_csrf_token(token: str, *, session_id: UUID) -> bool:
    """Tell whether we made it for this login session, under any master key that is known."""
    # As bytes, because text with other characters than ASCII can't be compared.
    sent = token.encode()
    return any(
        hmac.compare_digest(_csrf_token(session_id, version).encode(), sent)
        for version in master.versions()
    )


def _csrf_token(session_id: UUID, version: int) -> str:
    return hmac.digest(
        master.derive(_CSRF_LABEL, version=version), session_id.bytes, "sha256"
    ).hex()


def _mac(session_id: UUID, generation: int, version: int, salt: bytes) -> bytes:
    # The salt is in the database and the master key isn't: making a token takes both.
    key = master.derive(_REFRESH_LABEL, salt=salt, version=version)
    signed = session_id.bytes + struct.pack(">QI", generation, version)
    return hmac.digest(key, signed, "sha256")
