"""What a call needs around it: who asks, whose things, what the path names and the body says."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any
from uuid import UUID, uuid4

from flask import Flask
from sqlalchemy import Row
from werkzeug.test import TestResponse

from app.auth import suspension
from app.credits import holds
from app.mail import service as mail
from app.mail.values import Kind
from app.platform.actor import Actor
from app.platform.db import transaction
from app.support import export
from tests import people
from tests.client import Client, new_key
from tests.hooks import delete_all, make_delivery
from tests.mailing import Postman
from tests.people import PASSWORD, TestUser
from tests.shop import make_discount, make_order, make_product

Sql = Callable[..., list[Row[Any]]]
API = "/api/v1"


@dataclass(kw_only=True)
class Scene:
    """Who asks, whose things are asked for, and what else a request needs."""

    app: Flask
    sql: Sql
    owner: TestUser
    actor: TestUser | None

    @cached_property
    def third(self) -> TestUser:
        """Somebody else; few calls need one."""
        return people.make_user(self.app)

    def transfer(self) -> UUID:
        """Return the id of the transfer that the owner's credits came by."""
        find = (
            "SELECT e.transfer_id FROM entries e JOIN accounts a ON a.id = e.account_id"
            " WHERE a.user_id = :id"
        )
        ((found,),) = self.sql(find, id=self.owner.id)
        return UUID(str(found))

    def hold(self) -> UUID:
        """Return the id of a hold that the owner has placed."""
        actor = Actor(kind="user", user_id=self.owner.id)
        with transaction() as session:
            return holds.place(session, actor=actor, amount=1, user_id=None, memo=None).id

    def order(self, *, paid: bool) -> UUID:
        """Return the id of an order of the owner."""
        return make_order(self.owner.id, paid=paid)

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

    @cached_property
    def _delivery(self) -> tuple[UUID, UUID]:
        return make_delivery(self.app)

    def webhook(self) -> UUID:
        """Return the id of a webhook, the only one."""
        return self._delivery[0]

    def delivery(self) -> UUID:
        """Return the id of a delivery to it."""
        return self._delivery[1]

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
    "<uuid:hold_id>": Scene.hold,
    "<uuid:session_id>": Scene.login_session,
    "<uuid:key_id>": Scene.api_key,
    "<uuid:export_id>": Scene.export,
    "<uuid:product_id>": lambda _: make_product().id,
    "<uuid:discount_id>": lambda _: make_discount().id,
    "<uuid:order_id>/fulfil": lambda scene: f"{scene.order(paid=True)}/fulfil",
    "<uuid:order_id>/refund": lambda scene: f"{scene.order(paid=True)}/refund",
    "<uuid:order_id>": lambda scene: scene.order(paid=False),
    "<uuid:webhook_id>": Scene.webhook,
    "<uuid:delivery_id>": Scene.delivery,
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
    "POST /api/v1/credits/holds": lambda _: {"amount": 1},
    "POST /api/v1/credits/transfers": lambda scene: {"to_user_id": receiver(scene), "amount": 1},
    "POST /api/v1/credits/transfers/batch": lambda scene: {
        "transfers": [{"to_user_id": receiver(scene), "amount": 1}],
    },
    "POST /api/v1/credits/transfers/<uuid:transfer_id>/reverse": lambda _: {"reason": "r"},
    "POST /api/v1/discounts": lambda _: {"code": uuid4().hex, "percent": "10"},
    "PATCH /api/v1/discounts/<uuid:discount_id>": lambda _: {"percent": "20"},
    "POST /api/v1/orders": lambda _: {"items": [{"sku": make_product().sku, "quantity": 1}]},
    "POST /api/v1/orders/<uuid:order_id>/refund": lambda _: {"reason": "r"},
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
    "POST /api/v1/webhooks": lambda _: delete_all() or {
        "url": "http://127.0.0.1:9/", "events": ["order.paid"],
    },
    "PATCH /api/v1/webhooks/<uuid:webhook_id>": lambda _: {"active": False},
}  # fmt: skip
KEYED = (
    "POST /api/v1/credits/charges",
    "POST /api/v1/credits/grants",
    "POST /api/v1/credits/holds",
    "POST /api/v1/credits/holds/<uuid:hold_id>/capture",
    "POST /api/v1/credits/holds/<uuid:hold_id>/release",
    "POST /api/v1/credits/transfers",
    "POST /api/v1/credits/transfers/batch",
    "POST /api/v1/credits/transfers/<uuid:transfer_id>/reverse",
    "GET /api/v1/idempotency",
    "POST /api/v1/orders",
    "POST /api/v1/orders/<uuid:order_id>/pay",
    "POST /api/v1/orders/<uuid:order_id>/refund",
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
