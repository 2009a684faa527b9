"""Makes access tokens that the service didn't issue, and looks whether they are refused."""

import base64
import hmac
import json
import string
from typing import Any

import jwt
from cryptography.hazmat.primitives.asymmetric import ec, ed448, rsa
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from jwt.algorithms import OKPAlgorithm

from app.keys import service as keys
from tests.client import Client

GONE = object()
LOGOUT = "/api/v1/auth/logout"


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


def resigned(token: str, alg: str, key: Any) -> str:
    """Sign with another algorithm and a key of its own, under the kid of the real one."""
    header, claims = parts(token)
    return jwt.encode(claims, key, algorithm=alg, headers={"kid": header["kid"]})


def by_algorithm(alg: str) -> Any:
    """Return a fresh key of the kind that an algorithm takes."""
    if alg.startswith("ES"):
        curves = {"ES256": ec.SECP256R1(), "ES384": ec.SECP384R1(), "ES512": ec.SECP521R1()}
        return ec.generate_private_key(curves[alg])
    if alg.startswith("HS"):
        return "s" * 64
    if alg == "EdDSA":
        return ed448.Ed448PrivateKey.generate()
    return rsa.generate_private_key(65537, 2048)


def bringing_its_key(token: str, **also: Any) -> str:
    """Sign with a key of one's own that the header brings along (CVE-2018-0114)."""
    key = Ed25519PrivateKey.generate()
    own = json.loads(OKPAlgorithm.to_jwk(key.public_key()))
    return headed(token, key=key, jwk=own, **also)


def shared_secret(token: str, spelled: str = "PEM") -> str:
    """Sign with the public key as if it were the secret of HS256 (CVE-2015-9235)."""
    header, claims = parts(token)
    public = keys.ring().current().signing_key.public_key()
    secrets = {
        "PEM": public.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo),
        "DER": public.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo),
        "raw": public.public_bytes_raw(),
        "JWK": OKPAlgorithm.to_jwk(public).encode(),
        "x": encoded(public.public_bytes_raw()).encode(),
        "kid": header["kid"].encode(),
        "empty": b"",
    }
    text = unsigned_text(header | {"alg": "HS256"}, claims)
    return f"{text}.{encoded(hmac.digest(secrets[spelled], text.encode(), 'sha256'))}"


def unsigned(token: str, alg: object = "none") -> str:
    header, claims = parts(token)
    return unsigned_text(header | {"alg": alg}, claims) + "."


def unsigned_text(header: dict[str, Any], claims: dict[str, Any]) -> str:
    return f"{encoded(json.dumps(header).encode())}.{encoded(json.dumps(claims).encode())}"


def payload(token: str, content: bytes) -> str:
    return signed(json.dumps(parts(token)[0]).encode(), content)


def saying_twice(token: str, name: str, value: Any) -> str:
    """Return the token with one claim standing there twice, the real value first."""
    text = json.dumps(parts(token)[1])
    return payload(token, f'{text[:-1]}, "{name}": {json.dumps(value)}}}'.encode())


def other_last_letter(token: str) -> str:
    """Return the token with another spelling of the same signature: its last bits say nothing."""
    letters = string.ascii_uppercase + string.ascii_lowercase + string.digits + "-_"
    return token[:-1] + letters[letters.index(token[-1]) + 1]


def assert_refused_everywhere(
    client: Client, operations: list[tuple[str, str]], token: str
) -> None:
    """Check that a token is a 401 wherever one is taken, before the body is looked at."""
    malformed = {"data": b"{", "content_type": "application/json"}
    for method, path in operations:
        # Signing out takes another proof as well, which could stand in the body.
        sent = {} if path == LOGOUT else malformed
        answer = client.request(method, path, token=token, **sent)
        assert (answer.status_code, answer.json["error"]["code"]) == (401, "UNAUTHENTICATED"), path
        assert answer.headers["WWW-Authenticate"] == "Bearer"
