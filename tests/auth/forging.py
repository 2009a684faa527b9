"""Makes access tokens that the service didn't issue, under good signatures and bad ones."""

import base64
import hmac
import json
from typing import Any

import jwt
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from app.keys import service as keys

GONE = object()


def encoded(part: bytes) -> str:
    return base64.urlsafe_b64encode(part).rstrip(b"=").decode()


def signed(header: bytes, payload: bytes, key: Any = None) -> str:
    """Sign any bytes at all, with the service's own key if no other is given."""
    key = key or keys.ring().current().signing_key
    text = f"{encoded(header)}.{encoded(payload)}"
    return f"{text}.{encoded(key.sign(text.encode()))}"


def parts(token: str) -> tuple[dict[str, Any], dict[str, Any]]:
    claims = jwt.decode(token, options={"verify_signature": False})
    return jwt.get_unverified_header(token), claims


def claiming(token: str, **changes: Any) -> str:
    """Return the token with other claims, under a good signature."""
    header, claims = parts(token)
    changed = {name: value for name, value in (claims | changes).items() if value is not GONE}
    return signed(json.dumps(header).encode(), json.dumps(changed).encode())


def headed(token: str, key: Any = None, **changes: Any) -> str:
    """Return the token with another header, under a good signature."""
    header, claims = parts(token)
    changed = {name: value for name, value in (header | changes).items() if value is not GONE}
    return signed(json.dumps(changed).encode(), json.dumps(claims).encode(), key)


def shared_secret(token: str) -> str:
    """Sign with the public key as if it were the secret of HS256 (CVE-2015-9235)."""
    header, claims = parts(token)
    public = keys.ring().current().signing_key.public_key()
    secret = public.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
    text = unsigned_text(header | {"alg": "HS256"}, claims)
    return f"{text}.{encoded(hmac.digest(secret, text.encode(), 'sha256'))}"


def unsigned(token: str) -> str:
    header, claims = parts(token)
    return unsigned_text(header | {"alg": "none"}, claims) + "."


def unsigned_text(header: dict[str, Any], claims: dict[str, Any]) -> str:
    return f"{encoded(json.dumps(header).encode())}.{encoded(json.dumps(claims).encode())}"


def payload(token: str, content: bytes) -> str:
    return signed(json.dumps(parts(token)[0]).encode(), content)
