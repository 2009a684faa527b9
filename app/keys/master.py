"""Derives a key for each use from the master keys, and encrypts what is stored under them."""

import os
from collections.abc import Sequence

from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from app.keys.errors import UnknownMasterKey

_NONCE_BYTES = 12  # The nonce size of AES-GCM; random ones are safe for 2^32 messages of one key.
_keys: dict[int, bytes] = {}
_current = 0


def configure(master_keys: Sequence[tuple[int, bytes]]) -> None:
    """Use these master keys from now on: (version, 32 bytes); the first one is the current one."""
    global _current
    _keys.clear()
    _keys.update(master_keys)
    _current = master_keys[0][0]


def current_version() -> int:
    """Return the version of the master key under which new things are made."""
    return _current


def versions() -> tuple[int, ...]:
    """Return the versions of all master keys that are known, the current one first."""
    return tuple(_keys)


def derive(label: str, *, salt: bytes = b"", version: int | None = None) -> bytes:
    """Return the 32 bytes that belong to a use, by HKDF with SHA-256 (RFC 5869).

    Keys of different labels, salts or versions say nothing about each other. Without a version the
    current master key is taken.

    Raises UnknownMasterKey.
    """
    number = _current if version is None else version
    try:
        master_key = _keys[number]
    except KeyError:
        raise UnknownMasterKey(f"master key {number} is not in APP_AUTH_MASTER_KEYS") from None
    info = f"bursar {label}".encode()
    return HKDF(algorithm=SHA256(), length=32, salt=salt or None, info=info).derive(master_key)


def encrypt(label: str, plain: bytes, *, context: bytes) -> bytes:
    """Return nonce, ciphertext and tag (AES-256-GCM) under the current master key.

    Only `decrypt` with the same label and context opens it.
    """
    nonce = os.urandom(_NONCE_BYTES)
    return nonce + AESGCM(derive(label)).encrypt(nonce, plain, context)


def decrypt(label: str, sealed: bytes, *, context: bytes, version: int) -> bytes:
    """Return what `encrypt` was given under the master key of that version.

    Raises UnknownMasterKey, or InvalidTag when the bytes, the context or the key is another.
    """
    nonce, ciphertext = sealed[:_NONCE_BYTES], sealed[_NONCE_BYTES:]
    return AESGCM(derive(label, version=version)).decrypt(nonce, ciphertext, context)
