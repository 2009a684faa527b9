"""How addresses and names compare, and what roles permit."""

import pytest

from app.users.values import (
    PERMISSIONS,
    ROLES,
    all_roles,
    email_key,
    permissions_of,
)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("Ada@Example.com", "ada@example.COM"),
        ("straße@example.com", "STRASSE@example.com"),
        ("\uff41da@example.com", "ada@example.com"),
        ("cafe\u0301@example.com", "café@example.com"),
        ("ada@bücher.example", "ada@xn--bcher-kva.example"),
    ],
)
def test_spellings_of_one_mailbox_have_one_key(one: str, other: str) -> None:
    assert email_key(one) == email_key(other)


@pytest.mark.parametrize("other", ["ada+1@example.com", "a.da@example.com", "ada@example.org"])
def test_other_mailboxes_have_other_keys(other: str) -> None:
    assert email_key(other) != email_key("ada@example.com")


@pytest.mark.parametrize(
    "text",
    [
        "", "ada", "ada@", "@example.com", "ada@example", "a b@example.com", "ada@exa mple.com",
        "ada@@example.com", "Ada <ada@example.com>", "ada@[127.0.0.1]", "ada@example.com\n",
        "a" * 250 + "@example.com", "ﷺ" * 20 + "@example.com",
    ],
)  # fmt: skip
def test_what_is_no_address_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"."):
        email_key(text)


def test_the_roles_permit_what_the_contract_says() -> None:
    assert {role: " ".join(sorted(permitted)) for role, permitted in ROLES.items()} == {
        "user": "",
        "support": "audit:read credits:read orders:read users:read users:suspend",
        "finance": "audit:read credits:charge credits:grant credits:read credits:reverse"
        " orders:read orders:refund users:read",
        "service": "credits:charge credits:read users:read",
        "admin": "audit:read catalogue:write credits:charge credits:grant credits:read"
        " credits:reverse orders:read orders:refund orders:write users:read users:roles"
        " users:suspend users:write webhooks:write",
    }
    assert ROLES["admin"] == PERMISSIONS


def test_several_roles_permit_what_each_permits() -> None:
    assert permissions_of(frozenset({"support", "service"})) == ROLES["support"] | ROLES["service"]
    assert all_roles(["support"]) == {"support", "user"}
    assert permissions_of(all_roles([])) == frozenset()
