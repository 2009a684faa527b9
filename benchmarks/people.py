"""Fills an empty database with users, login sessions and credits, and writes down their tokens."""

import hashlib
import secrets
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from uuid import UUID

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from flask import Flask
from sqlalchemy import text

from app.auth import tokens
from app.keys import service as keys
from app.platform import db
from app.platform.name_search import name_grams
from app.platform.settings import Settings
from app.users import passwords

# Fewer than a worker remembers tokens of, and enough that two transfers seldom meet.
PEOPLE = 3000
STAFF = 300
# Of these, each run of refreshing uses up its own.
REFRESHERS = 64
NAME = "Ada Lovelace"

# Numbers become ids by plain arithmetic: pgbench picks people as cheaply as wrk does.
PERSON = """
CREATE FUNCTION person(number bigint) RETURNS uuid LANGUAGE sql IMMUTABLE PARALLEL SAFE
    RETURN ('01900000-0000-7000-8000-' || lpad(number::text, 12, '0'))::uuid;
"""
USERS = """
INSERT INTO users (id, email, email_key, email_verified, name, name_grams, password_hash, roles,
                   status, version, created_at, updated_at)
SELECT person(n), format('person%s@example.com', n), format('person%s@example.com', n), true, :name,
       :grams, :password_hash, CASE WHEN n <= :staff THEN ARRAY['support'] ELSE '{}' END,
       'active', 1, now() - n * interval '1 second', now()
FROM generate_series(1, :people) n
"""
# A login session has the number of its user, and further ones of the same users follow.
LOGIN_SESSIONS = """
INSERT INTO login_sessions (id, user_id, generation, confirmed_at, salt, device, address,
                            created_at, last_used_at, expires_at)
SELECT person(n), person((n - 1) % :people + 1), 1, now(), decode(md5(n::text), 'hex'), 'wrk',
       '127.0.0.1', now(), now(), now() + interval '1 day'
FROM generate_series(1, :sessions) n
"""
# The product of a number is person number's own; the first one is everybody's as well.
PRODUCTS = """
INSERT INTO products (id, sku, name, name_grams, price, active, version)
SELECT person(n), 'product-' || n, 'Product ' || n, '{}', 1, true, 1
FROM generate_series(1, :people) n
"""
CREDITS = """
SELECT count(post_transfer_v3(
    gen_random_uuid(), 'grant', '00000000-0000-7000-8000-000000000001', id, 1000000000, NULL,
    'system', NULL, 'benchmark', now(), gen_random_uuid(), gen_random_uuid(),
    NULL, NULL, NULL))
FROM users
"""


@dataclass(frozen=True, kw_only=True)
class People:
    """Files of login sessions for `requests.lua`, the password of all, and the key of tokens."""

    members: Path
    staff: Path
    refreshers: tuple[Path, ...]
    password: str
    password_hash: str
    public_key: bytes


def fill(settings: Settings, app: Flask, *, folder: Path, repetitions: int) -> People:
    """Make users with login sessions and credits in a migrated, empty database."""
    password = secrets.token_urlsafe(12)
    password_hash = passwords.hash_password(password)
    sessions = PEOPLE + REFRESHERS * repetitions
    with db.one_connection(settings, migration=True) as owner:
        for statement, values in statements(password_hash, sessions=sessions):
            owner.execute(text(statement), values)
    db.open_pool(settings, size=1)
    with app.app_context():
        lines = [_line(number) for number in range(1, sessions + 1)]
        key = keys.ring().current().signing_key
    db.close_pool(1)
    if not isinstance(key, Ed25519PrivateKey):
        raise TypeError("the yardstick verifies EdDSA only")

    def write(name: str, chosen: Iterable[str]) -> Path:
        path = folder / name
        path.write_text("".join(chosen))
        return path

    starts = range(PEOPLE, sessions, REFRESHERS)
    return People(
        members=write("members", lines[:PEOPLE]),
        staff=write("staff", lines[:STAFF]),
        refreshers=tuple(
            write(f"refreshers-{start}", lines[start : start + REFRESHERS]) for start in starts
        ),
        password=password,
        password_hash=password_hash,
        public_key=key.public_key().public_bytes_raw(),
    )


def statements(password_hash: str, *, sessions: int) -> Iterable[tuple[str, Mapping[str, object]]]:
    """Return what fills the database, in order."""
    user = {"name": NAME, "grams": name_grams(NAME), "password_hash": password_hash}
    return [
        (PERSON, {}),
        (USERS, {**user, "people": PEOPLE, "staff": STAFF}),
        (LOGIN_SESSIONS, {"people": PEOPLE, "sessions": sessions}),
        (CREDITS, {}),
        (PRODUCTS, {"people": PEOPLE}),
        ("VACUUM ANALYZE", {}),
    ]


def _id(number: int) -> UUID:
    return UUID(f"01900000-0000-7000-8000-{number:012}")


def _line(number: int) -> str:
    """Return one line for `requests.lua`: what the client of a login session knows."""
    user = (number - 1) % PEOPLE + 1
    roles = frozenset({"user", "support"} if user <= STAFF else {"user"})
    access = tokens.issue_access_token(
        user_id=_id(user), session_id=_id(number), generation=1, roles=roles
    )
    refresh = tokens.make_refresh_token(
        session_id=_id(number), generation=1, salt=hashlib.md5(str(number).encode()).digest()
    )
    return f"{access}\t{refresh}\t{_id(user)}\tperson{user}@example.com\n"
