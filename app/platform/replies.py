"""Answers a request with what its work came to, once and the same for every repeat of its key."""

from collections.abc import Callable
from typing import TypeVar

from flask import Response, current_app, request
from sqlalchemy.orm import Session

from app.platform import http
from app.platform.guards import current_actor
from app.platform.idempotency import Answer, once

T = TypeVar("T")


def reply_once(
    work: Callable[[Session], T],
    respond: Callable[[T], Answer],
    *,
    prepare: Callable[[], None] | None = None,
) -> Response:
    """Do the current request's work exactly once for the actor and the key, and answer.

    The view's mark, `@keyed` or `@takes_key`, says whether there has to be a key. All else is as
    with `idempotency.once`.

    Raises IdempotencyKeyRequired, BadRequest and whatever `once` raises.
    """
    rule = request.url_rule
    view = current_app.view_functions[rule.endpoint] if rule else None
    done = once(
        actor=current_actor(),
        request=http.keyed_request(required=vars(view).get("keyed") == "required"),
        work=work,
        respond=respond,
        prepare=prepare,
    )
    return http.reply(done)
