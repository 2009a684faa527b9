"""What the tests of refusals share: things that paths name, and the one shape of errors."""

from collections.abc import Callable
from typing import Any
from uuid import UUID, uuid4

from flask import Flask
from werkzeug.test import TestResponse

from app.credits import holds
from app.credits import service as credits_service
from app.platform.actor import Actor
from app.platform.db import transaction
from app.platform.openapi import operations, path_of
from tests import people
from tests.hooks import make_delivery
from tests.people import TestUser
from tests.shop import make_discount, make_order, make_product

Operation = tuple[str, str, Callable[..., Any]]


def operations_on(app: Flask, ids: dict[str, UUID]) -> list[Operation]:
    """Every documented operation on these ids, by their names in paths; else on nobody's."""
    documented = app.extensions["bursar_openapi"]["paths"]
    found = []
    for rule, method, view in operations(app):
        path = path_of(rule)
        if path in documented and documented[path][method]["tags"] != ["around"]:
            for part in rule.split("/"):
                if part.startswith("<"):
                    name = part[1:-1].rpartition(":")[2]
                    path = path.replace("{" + name + "}", str(ids.get(name, uuid4())))
            found.append((method.upper(), path, view))
    assert len(found) > 10
    return found


def ids_of_things(app: Flask, user: TestUser) -> dict[str, UUID]:
    """Return ids of what is the user's, by their names in paths."""
    key = people.make_api_key(user, "self:read")
    webhook_id, delivery_id = make_delivery(app)
    return {
        "user_id": user.id,
        "session_id": user.session_id,
        "key_id": people.id_of_key(key),
        **credits_of(user),
        "order_id": make_order(user.id),
        "product_id": make_product().id,
        "discount_id": make_discount().id,
        "webhook_id": webhook_id,
        "delivery_id": delivery_id,
    }


def credits_of(user: TestUser) -> dict[str, UUID]:
    """Give the user credits and hold some of them; return the ids of both."""
    with transaction() as session:
        given = credits_service.grant(
            session, actor=Actor(kind="cli"), user_id=user.id, amount=20, memo="For a test"
        )
    own = Actor(kind="user", user_id=user.id)
    with transaction() as session:
        held = holds.place(session, actor=own, amount=5, user_id=None, memo=None)
    return {"transfer_id": given.id, "hold_id": held.id}


def assert_error(answer: TestResponse, status: int, code: str) -> None:
    """Check the one shape of errors, and that nothing of it may be stored on the way."""
    where = f"{answer.request.method} {answer.request.path}"
    assert (answer.status_code, answer.json and answer.json["error"]["code"]) == (status, code), (
        where
    )
    error = answer.json["error"]
    assert set(error) - {"details"} == {"code", "message", "request_id"}, where
    assert error["request_id"] == answer.headers["X-Request-Id"], where
    assert answer.headers["Cache-Control"] == "no-store", where
    assert answer.headers["X-Content-Type-Options"] == "nosniff", where
