"""Who gets what from every route: each cell of the tables is really requested.

A route without a row fails. Objects are made anew for each cell, so that no cell sees what another
one has changed.
"""

import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any
from uuid import UUID, uuid4

import pytest
from flask import Flask
from sqlalchemy import Row
from werkzeug.routing import Rule
from werkzeug.test import TestResponse

from app.auth import suspension
from app.auth.values import SCOPES
from app.mail import service as mail
from app.mail.values import Kind
from app.platform import guards
from app.platform.actor import Actor
from app.platform.db import transaction
from app.support import export
from tests import people
from tests.client import Client, new_key
from tests.mailing import Postman
from tests.people import PASSWORD, TestUser
from tests.shop import make_discount, make_product

Sql = Callable[..., list[Row[Any]]]
API = "/api/v1"

# "user" owns what the path names, "other" is as much a user and doesn't. "key" is an API key of an
# administrator, with every scope; "key without" has another scope than the call needs.
WHO = (
    "anonymous", "user", "other", "suspended", "support", "finance", "service", "admin",
    "key", "key without",
)  # fmt: skip
KEYS = ("key", "key without")
ANYONE = (200,) * 10
SIGNED_IN_200 = (401, 200, 200, 401, 200, 200, 200, 200, 200, 403)
# What only administrators may.
ADMINS_200 = (401, 403, 403, 401, 403, 403, 403, 200, 200, 403)
ADMINS_201 = (401, 403, 403, 401, 403, 403, 403, 201, 201, 403)
# What no API key opens.
PEOPLE_200 = (401, 200, 200, 401, 200, 200, 200, 200, 403, 403)
PEOPLE_201 = (401, 201, 201, 401, 201, 201, 201, 201, 403, 403)
PEOPLE_204 = (401, 204, 204, 401, 204, 204, 204, 204, 403, 403)
PEOPLE_202 = (401, 202, 202, 401, 202, 202, 202, 202, 403, 403)
MATRIX = {
    "GET /": ANYONE,
    "GET /.well-known/jwks.json": ANYONE,
    "GET /account/page.css": ANYONE,
    "GET /account/page.js": ANYONE,
    "GET /account/reset": ANYONE,
    "GET /account/undo": ANYONE,
    "GET /account/verify": ANYONE,
    "GET /docs": ANYONE,
    "GET /docs/<any('swagger-ui.css','swagger-ui-bundle.js','favicon-32x32.png'):name>": ANYONE,
    "GET /docs/start.js": ANYONE,
    "GET /health": ANYONE,
    "GET /healthz": ANYONE,
    "GET /metrics": ANYONE,
    "GET /openapi.json": ANYONE,
    "GET /ready": ANYONE,
    "GET /api/v1/api-keys": PEOPLE_200,
    "POST /api/v1/api-keys": PEOPLE_201,
    "DELETE /api/v1/api-keys/<uuid:key_id>": (401, 204, 404, 401, 404, 404, 404, 404, 403, 403),
    "POST /api/v1/api-keys/<uuid:key_id>/rotate": (
        401, 201, 404, 401, 404, 404, 404, 404, 403, 403,
    ),
    "GET /api/v1/audit/events": (401, 403, 403, 401, 200, 200, 403, 200, 200, 403),
    "POST /api/v1/auth/login": (401, 200, 200, 403, 200, 200, 200, 200, 200, 200),
    "POST /api/v1/auth/logout": PEOPLE_204,
    "POST /api/v1/auth/logout-all": PEOPLE_204,
    "POST /api/v1/auth/refresh": (401, 200, 200, 401, 200, 200, 200, 200, 200, 200),
    "POST /api/v1/auth/email/resend": PEOPLE_202,
    "POST /api/v1/auth/email/verify": (204,) * 10,
    "POST /api/v1/auth/password/forgot": (202,) * 10,
    "POST /api/v1/auth/password/reset": (204,) * 10,
    "POST /api/v1/auth/undo": (204,) * 10,
    "GET /api/v1/credits/balance": SIGNED_IN_200,
    "GET /api/v1/credits/entries": SIGNED_IN_200,
    "POST /api/v1/credits/charges": (401, 403, 403, 401, 403, 201, 201, 201, 201, 403),
    "POST /api/v1/credits/grants": (401, 403, 403, 401, 403, 201, 403, 201, 201, 403),
    "POST /api/v1/credits/transfers": (401, 201, 201, 401, 201, 201, 201, 201, 201, 403),
    "GET /api/v1/credits/transfers/<uuid:transfer_id>": (
        401, 200, 404, 401, 200, 200, 200, 200, 200, 403,
    ),
    "GET /api/v1/discounts": ADMINS_200,
    "POST /api/v1/discounts": ADMINS_201,
    "GET /api/v1/discounts/<uuid:discount_id>": ADMINS_200,
    "PATCH /api/v1/discounts/<uuid:discount_id>": ADMINS_200,
    "GET /api/v1/products": ANYONE,
    "POST /api/v1/products": ADMINS_201,
    "GET /api/v1/products/<uuid:product_id>": ANYONE,
    "PATCH /api/v1/products/<uuid:product_id>": ADMINS_200,
    "POST /api/v1/users": (201,) * 10,
    "GET /api/v1/users": (401, 403, 403, 401, 200, 200, 200, 200, 200, 403),
    "GET /api/v1/users/<uuid:user_id>": (401, 200, 404, 401, 200, 200, 200, 200, 200, 403),
    "PUT /api/v1/users/<uuid:user_id>/roles": (
        401, 403, 403, 401, 403, 403, 403, 200, 200, 403,
    ),
    "POST /api/v1/users/<uuid:user_id>/suspend": (
        401, 403, 403, 401, 200, 403, 403, 200, 200, 403,
    ),
    "POST /api/v1/users/<uuid:user_id>/reinstate": (
        401, 403, 403, 401, 200, 403, 403, 200, 200, 403,
    ),
    "GET /api/v1/users/<uuid:user_id>/sessions": (
        401, 403, 403, 401, 200, 403, 403, 200, 403, 403,
    ),
    "DELETE /api/v1/users/<uuid:user_id>/sessions": (
        401, 403, 403, 401, 204, 403, 403, 204, 403, 403,
    ),
    "PUT /api/v1/users/<uuid:user_id>": (401, 403, 403, 401, 403, 403, 403, 200, 200, 403),
    "PATCH /api/v1/users/<uuid:user_id>": (401, 403, 403, 401, 403, 403, 403, 200, 200, 403),
    "POST /api/v1/users/<uuid:user_id>/password-reset": (
        401, 403, 403, 401, 403, 403, 403, 202, 403, 403,
    ),
    "DELETE /api/v1/users/<uuid:user_id>": (401, 403, 403, 401, 403, 403, 403, 202, 403, 403),
    "GET /api/v1/users/me": SIGNED_IN_200,
    "PATCH /api/v1/users/me": SIGNED_IN_200,
    "DELETE /api/v1/users/me": PEOPLE_202,
    "POST /api/v1/users/me/export": PEOPLE_202,
    "GET /api/v1/users/me/export/<uuid:export_id>": (
        401, 200, 404, 401, 404, 404, 404, 404, 403, 403,
    ),
    "PUT /api/v1/users/me/password": PEOPLE_204,
    "GET /api/v1/users/me/security-log": SIGNED_IN_200,
    "GET /api/v1/users/me/sessions": PEOPLE_200,
    "DELETE /api/v1/users/me/sessions": PEOPLE_204,
    "DELETE /api/v1/users/me/sessions/<uuid:session_id>": (
        401, 204, 404, 401, 404, 404, 404, 404, 403, 403,
    ),
}  # fmt: skip

# Of staff who may, on whom: nobody acts on a user who holds a permission that they lack themselves.
ON_WHOM = ("user", "support", "finance", "service", "admin", "oneself")
STAFF = {
    ("POST /api/v1/credits/charges", "finance"): (201, 403, 201, 201, 403, 201),
    ("POST /api/v1/credits/charges", "service"): (201, 403, 403, 201, 403, 201),
    ("POST /api/v1/credits/charges", "admin"): (201,) * 6,
    ("POST /api/v1/credits/grants", "finance"): (201, 403, 201, 201, 403, 403),
    ("POST /api/v1/credits/grants", "admin"): (201, 201, 201, 201, 201, 403),
    ("PUT /api/v1/users/<uuid:user_id>", "admin"): (200,) * 6,
    ("PATCH /api/v1/users/<uuid:user_id>", "admin"): (200,) * 6,
    ("DELETE /api/v1/users/<uuid:user_id>", "admin"): (202, 202, 202, 202, 202, 403),
    ("POST /api/v1/users/<uuid:user_id>/password-reset", "admin"): (202,) * 6,
    ("PUT /api/v1/users/<uuid:user_id>/roles", "admin"): (200, 200, 200, 200, 200, 200),
    ("POST /api/v1/users/<uuid:user_id>/suspend", "support"): (200, 200, 403, 403, 403, 403),
    ("POST /api/v1/users/<uuid:user_id>/suspend", "admin"): (200, 200, 200, 200, 200, 403),
    # Nobody is suspended and asks for it: what isn't suspended can't be reinstated.
    ("POST /api/v1/users/<uuid:user_id>/reinstate", "support"): (200, 200, 403, 403, 403, 409),
    ("POST /api/v1/users/<uuid:user_id>/reinstate", "admin"): (200, 200, 200, 200, 200, 409),
    ("GET /api/v1/users/<uuid:user_id>/sessions", "support"): (200,) * 6,
    ("GET /api/v1/users/<uuid:user_id>/sessions", "admin"): (200,) * 6,
    ("DELETE /api/v1/users/<uuid:user_id>/sessions", "support"): (204, 204, 403, 403, 403, 204),
    ("DELETE /api/v1/users/<uuid:user_id>/sessions", "admin"): (204,) * 6,
}
# Of everybody, for who may read users at all.
READ_ONE = "GET /api/v1/users/<uuid:user_id>"


@dataclass(kw_only=True)
class Scene:
    """Who asks, whose things are asked for, and what else a request needs."""

    app: Flask
    sql: Sql
    owner: TestUser
    actor: TestUser | None
    third: TestUser = field(init=False)

    def __post_init__(self) -> None:
        self.third = people.make_user(self.app)

    def transfer(self) -> UUID:
        """Return the id of the transfer that the owner's credits came by."""
        find = (
            "SELECT e.transfer_id FROM entries e JOIN accounts a ON a.id = e.account_id"
            " WHERE a.user_id = :id"
        )
        ((found,),) = self.sql(find, id=self.owner.id)
        return UUID(str(found))

    def login_session(self) -> UUID:
        """Return the id of another login session of the owner."""
        answer = Client(self.app).post(
            f"{API}/auth/login", json={"email": self.owner.email, "password": PASSWORD}
        )
        return UUID(answer.json["session_id"])

    def api_key(self) -> UUID:
        """Return the id of an API key of the owner."""
        return people.id_of_key(people.make_api_key(self.owner, "self:read"))

    def export(self) -> UUID:
        """Return the id of an export of the owner that is made."""
        with transaction() as session:
            asked = export.request(session, actor=Actor(kind="user", user_id=self.owner.id))
        export.make(asked.id)
        return asked.id

    def mailed(self, kind: Kind) -> str:
        """Return the token in a mail of this kind to the owner."""
        with transaction() as session:
            mail.request(session, kind, user_id=self.owner.id, email=self.owner.email)
        postman = Postman(settings=self.app.extensions["bursar"], sql=self.sql)
        (token,) = (each.token for each in postman.deliver(user_id=self.owner.id))
        assert token is not None
        return token

    def suspended(self) -> UUID:
        """Suspend the owner unless it is the owner who asks; return the id."""
        if self.actor is not self.owner:
            suspend(self.owner)
        return self.owner.id


def suspend(user: TestUser) -> None:
    with transaction() as session:
        suspension.suspend(
            session, actor=Actor(kind="cli"), user_id=user.id, reason="For a test", until=None
        )


def credentials(scene: Scene) -> dict[str, str]:
    asking = scene.actor
    return {"email": asking.email if asking else "nobody@example.org", "password": PASSWORD}


def receiver(scene: Scene) -> str:
    return str((scene.third if scene.actor is scene.owner else scene.owner).id)


# What a call sends, and what its path names. Of all others the path is the rule, without a body.
PATHS: dict[str, Callable[[Scene], UUID | str]] = {
    "<uuid:transfer_id>": Scene.transfer,
    "<uuid:session_id>": Scene.login_session,
    "<uuid:key_id>": Scene.api_key,
    "<uuid:export_id>": Scene.export,
    "<uuid:product_id>": lambda _: make_product().id,
    "<uuid:discount_id>": lambda _: make_discount().id,
    "<uuid:user_id>/reinstate": lambda scene: f"{scene.suspended()}/reinstate",
    "<uuid:user_id>": lambda scene: scene.owner.id,
    "<any('swagger-ui.css','swagger-ui-bundle.js','favicon-32x32.png'):name>": lambda _: (
        "swagger-ui.css"
    ),
}
BODIES: dict[str, Callable[[Scene], dict[str, Any]]] = {
    "POST /api/v1/api-keys": lambda _: {"name": "For a test", "scopes": ["self:read"]},
    "POST /api/v1/auth/email/verify": lambda scene: {"token": scene.mailed(Kind.VERIFY)},
    "POST /api/v1/auth/login": credentials,
    "POST /api/v1/auth/password/forgot": lambda scene: {"email": scene.owner.email},
    "POST /api/v1/auth/password/reset": lambda scene: {
        "token": scene.mailed(Kind.RESET), "new_password": "another-Passphrase-of-mine",
    },
    "POST /api/v1/auth/refresh": lambda scene: (
        {"refresh_token": scene.actor.refresh_token} if scene.actor else {}
    ),
    "POST /api/v1/credits/charges": lambda scene: {
        "user_id": str(scene.owner.id), "amount": 1, "memo": "m",
    },
    "POST /api/v1/auth/undo": lambda scene: {"token": scene.mailed(Kind.CHANGE_NOTICE)},
    "POST /api/v1/credits/grants": lambda scene: {
        "user_id": str(scene.owner.id), "amount": 1, "memo": "m",
    },
    "POST /api/v1/credits/transfers": lambda scene: {"to_user_id": receiver(scene), "amount": 1},
    "POST /api/v1/discounts": lambda _: {"code": uuid4().hex, "percent": "10"},
    "PATCH /api/v1/discounts/<uuid:discount_id>": lambda _: {"percent": "20"},
    "POST /api/v1/products": lambda _: {"sku": uuid4().hex, "name": "New", "price": 1},
    "PATCH /api/v1/products/<uuid:product_id>": lambda _: {"price": 2},
    "POST /api/v1/users": lambda _: {
        "email": f"{uuid4().hex}@example.org", "name": "New", "password": PASSWORD,
    },
    # The address stays: a key may change no one's.
    "PUT /api/v1/users/<uuid:user_id>": lambda scene: {
        "name": "Other", "email": scene.owner.email,
    },
    "PATCH /api/v1/users/<uuid:user_id>": lambda _: {"name": "Other"},
    "DELETE /api/v1/users/<uuid:user_id>": lambda _: {"forfeit": True},
    "DELETE /api/v1/users/me": lambda _: {"password": PASSWORD, "forfeit": True},
    "PUT /api/v1/users/<uuid:user_id>/roles": lambda _: {"roles": []},
    "POST /api/v1/users/<uuid:user_id>/suspend": lambda _: {"reason": "For a test"},
    "PATCH /api/v1/users/me": lambda _: {"name": "Other"},
    "PUT /api/v1/users/me/password": lambda _: {
        "current_password": PASSWORD, "new_password": "another-Passphrase-of-mine",
    },
}  # fmt: skip
KEYED = (
    "POST /api/v1/credits/charges",
    "POST /api/v1/credits/grants",
    "POST /api/v1/credits/transfers",
)


def path_of(call: str, scene: Scene) -> str:
    """Return a call's path, with ids of what belongs to the scene's owner."""
    path = call.partition(" ")[2]
    for part, value in PATHS.items():
        if part in path:
            path = path.replace(part, str(value(scene)))
    return path


def ask(
    call: str,
    scene: Scene,
    *,
    path: str | None = None,
    headers: Mapping[str, str] | None = None,
    **sent: Any,
) -> TestResponse:
    """Send the call as the scene's actor does; another path, headers or body may be given."""
    body = BODIES.get(call)
    if body is not None and not sent:
        sent = {"json": body(scene)}
    return Client(scene.app).request(
        call.partition(" ")[0],
        path or path_of(call, scene),
        token=scene.actor.token if scene.actor else None,
        key=new_key() if call in KEYED else None,
        headers=headers,
        **sent,
    )


def scope_without(call: str) -> str:
    """Return a scope that doesn't open the call."""
    return "audit:read" if re.search("/(products|discounts)", call) else "catalogue:write"


@pytest.fixture
def scene(app: Flask, sql: Sql) -> Callable[..., Scene]:
    """A function that returns a new scene for one of WHO, about a user with these roles.

    A key without its scope has another one than the call needs.
    """

    def make(who: str, *, of: tuple[str, ...] = (), call: str = "") -> Scene:
        owner = people.make_user(app, credits=10, roles=of)
        roles = () if who in ("anonymous", "user", "other", "suspended") else (who,)
        roles = ("admin",) if who in KEYS else roles
        actor = None
        if who == "user":
            actor = owner
        elif who != "anonymous":
            actor = people.make_user(app, credits=10, roles=roles)
        if actor is not None and who in KEYS:
            scopes = sorted(SCOPES) if who == "key" else [scope_without(call)]
            actor = replace(actor, token=people.make_api_key(actor, *scopes))
        made = Scene(app=app, sql=sql, owner=owner, actor=actor)
        if who == "suspended" and actor is not None:
            suspend(actor)
        return made

    return make


def calls_of(rule: Rule) -> Iterator[str]:
    return (f"{method} {rule.rule}" for method in (rule.methods or set()) - {"HEAD", "OPTIONS"})


def test_every_route_has_a_row(app: Flask) -> None:
    found = {call for rule in app.url_map.iter_rules() for call in calls_of(rule)}
    assert set(MATRIX) == found
    assert {len(codes) for codes in MATRIX.values()} == {len(WHO)}


@pytest.mark.parametrize("call", MATRIX)
def test_each_gets_what_the_table_says(call: str, scene: Callable[..., Scene]) -> None:
    found = {who: ask(call, scene(who, call=call)).status_code for who in WHO}
    assert found == dict(zip(WHO, MATRIX[call], strict=True))


def test_a_call_opens_to_an_api_key_or_is_for_people(app: Flask) -> None:
    for rule in app.url_map.iter_rules():
        view = app.view_functions[rule.endpoint]
        for call in calls_of(rule):
            found = dict(zip(WHO, MATRIX[call], strict=True))
            if guards.access(view) == guards.PUBLIC:
                assert found["key"] == found["key without"] < 400
            else:
                opens = found["key"] != 403
                assert opens == bool(guards.scopes_for(view, call.partition(" ")[0])), call
                assert found["key without"] == 403


def test_every_call_of_staff_on_somebody_has_a_row_for_each_role_that_may() -> None:
    on_somebody = {
        (call, who)
        for call, codes in MATRIX.items()
        if ("/users/<uuid:user_id>" in call and call != READ_ONE)
        or call.endswith(("/grants", "/charges"))
        for who, code in zip(WHO, codes, strict=True)
        if code < 400 and who not in KEYS
    }
    assert on_somebody == set(STAFF)


@pytest.mark.parametrize(("call", "who"), STAFF)
def test_staff_acts_on_nobody_who_may_more(
    call: str, who: str, scene: Callable[..., Scene]
) -> None:
    found = {}
    for whom in ON_WHOM:
        made = scene("user" if whom == "oneself" else who, of=roles_of(whom, who))
        found[whom] = ask(call, made).status_code
    assert found == dict(zip(ON_WHOM, STAFF[call, who], strict=True))


def roles_of(whom: str, who: str) -> tuple[str, ...]:
    named = who if whom == "oneself" else whom
    return () if named == "user" else (named,)


OWNED = [call for call in MATRIX if "<uuid:" in call and MATRIX[call] != ANYONE]


SENT: tuple[dict[str, Any], ...] = ({}, {"data": b"{", "content_type": "application/json"})


@pytest.mark.parametrize("call", OWNED)
def test_a_strangers_thing_answers_like_one_that_does_not_exist(
    call: str, scene: Callable[..., Scene]
) -> None:
    tried = 0
    for who, code in zip(WHO, MATRIX[call], strict=True):
        if code < 400:
            continue  # Who may see it sees whether it is there.
        made = scene(who, call=call)
        paths = (path_of(call, made), nobodys(call))
        for sent in SENT:
            first, second = (
                ask(call, made, path=path, headers={"X-Request-Id": "same"}, **sent)
                for path in paths
            )
            assert first.status_code == code, who
            assert first.data == second.data, who
            assert list(first.headers) == list(second.headers), who
        tried += 1
    assert tried >= 3


def nobodys(call: str) -> str:
    """Return a call's path, with an id of nothing."""
    path = call.partition(" ")[2]
    start, _, rest = path.partition("<uuid:")
    return start + str(uuid4()) + rest.partition(">")[2]
