"""Between Flask and the features: blueprints, bodies and queries in, answers out."""

import re
from collections.abc import Callable, Mapping
from functools import wraps
from typing import Any, NoReturn, TypeVar

import flask_smorest
import orjson
from flask import Flask, Response, current_app, g, request
from marshmallow import RAISE, Schema, ValidationError
from webargs.flaskparser import FlaskParser

from app.platform import errors
from app.platform.errors import AppError, BadRequest, Invalid, UnsupportedMediaType
from app.platform.idempotency import Answer, Keyed
from app.platform.strict_json import loads

View = TypeVar("View", bound=Callable[..., Any])
Decorator = Callable[[Callable[..., Any]], Callable[..., Any]]
NO_STORE = "no-store"
_VERSION = re.compile(r"[0-9]{1,19}")
_KEY = re.compile(r"[\x21-\x7e]{1,255}")


class StrictParser(FlaskParser):
    """Reads bodies and queries, and refuses every field that the schema doesn't know."""

    def load_json(self, req: Any, schema: Schema) -> Any:
        """Return the JSON body; an empty body counts as an empty object."""
        refusal = req.environ.get("bursar.body_error")
        if refusal is not None:
            raise refusal
        body = req.get_data()
        if not body:
            return {}
        if not req.is_json:
            raise UnsupportedMediaType
        g.body = loads(body)
        return g.body

    def load_querystring(self, req: Any, schema: Schema) -> Any:
        """Return the query parameters, each of which may stand there once."""
        for name, values in req.args.lists():
            if len(values) > 1:
                raise Invalid(details={name: ["Must be sent once."]})
            if "\x00" in values[0]:
                raise Invalid(details={name: ["Must not contain NUL."]})
        return super().load_querystring(req, schema)

    def handle_error(
        self, error: ValidationError, req: Any, schema: Schema, **kwargs: Any
    ) -> NoReturn:
        """Raise Invalid with dotted field names."""
        messages = error.messages
        by_location = next(iter(messages.values())) if isinstance(messages, dict) else messages
        raise Invalid(details=dotted(by_location))


def dotted(messages: Any, prefix: str = "") -> dict[str, list[str]]:
    """Return marshmallow's nested messages by dotted field name, `items.1.quantity`."""
    if isinstance(messages, Mapping):
        flat: dict[str, list[str]] = {}
        for name, inner in messages.items():
            flat |= dotted(inner, f"{prefix}.{name}" if prefix else str(name))
        return flat
    listed = messages if isinstance(messages, list) else [messages]
    return {prefix or "_schema": [str(message) for message in listed]}


class Blueprint(flask_smorest.Blueprint):
    """flask-smorest's blueprint, strict about what it is sent, tagged with its own name."""

    ARGUMENTS_PARSER = StrictParser(unknown=RAISE)

    # flask-smorest comes without types; these are its decorators.
    route: Callable[..., Decorator]
    arguments: Callable[..., Decorator]
    response: Callable[..., Decorator]
    alt_response: Callable[..., Decorator]
    doc: Callable[..., Decorator]

    def add_url_rule(self, rule: str, *args: Any, **kwargs: Any) -> None:
        """Register a view, in the document under the blueprint's name."""
        kwargs.setdefault("tags", [self.name])
        super().add_url_rule(rule, *args, **kwargs)


def fails(*kinds: type[AppError]) -> Callable[[View], View]:
    """Say which domain errors a view can answer; the document lists their codes."""

    def mark(view: View) -> View:
        vars(view)["fails"] = kinds
        return view

    return mark


def keyed(view: View) -> View:
    """Say that a view is only taken with an `Idempotency-Key`."""
    vars(view)["keyed"] = "required"
    return view


def takes_key(view: View) -> View:
    """Say that a view can be made repeatable with an `Idempotency-Key`, and works without one."""
    vars(view)["keyed"] = "optional"
    return view


def takes_cookie(name: str) -> Callable[[View], View]:
    """Say that a browser may prove itself by the cookie of this name, with `X-CSRF-Token`."""

    def mark(view: View) -> View:
        vars(view)["cookie"] = name
        return view

    return mark


def takes_version(view: View) -> View:
    """Say that a view changes the version named by `If-Match` only, and any without it."""
    vars(view)["versioned"] = True
    return view


def exists(look: Callable[..., object]) -> Decorator:
    """Call `look` with the path's ids before the body is read: what isn't there is 404 first."""

    def mark(view: Callable[..., Any]) -> Callable[..., Any]:
        @wraps(view)
        def looked_for(**ids: Any) -> Any:
            look(**ids)
            return view(**ids)

        return looked_for

    return mark


def install(app: Flask) -> None:
    """Refuse query parameters on routes of the API that declare none."""
    app.before_request(_refuse_unknown_query)


def _refuse_unknown_query() -> None:
    if request.url_rule is None or not request.args or request.method == "OPTIONS":
        return
    if not request.url_rule.rule.startswith("/api/"):
        return
    view = current_app.view_functions[request.url_rule.endpoint]
    if not any(parameter["in"] == "query" for parameter in parameters_of(view)):
        raise Invalid(details={name: ["Unknown field."] for name in request.args})


def parameters_of(view: Callable[..., Any]) -> list[dict[str, Any]]:
    """Return what a view's `arguments` decorators declare: dicts with `in` and `schema`."""
    declared: list[dict[str, Any]] = (
        getattr(view, "_apidoc", {}).get("arguments", {}).get("parameters", [])
    )
    return declared


def route() -> str:
    """Return the rule of the current request, which names no one's ids."""
    return request.url_rule.rule if request.url_rule else ""


def versions() -> frozenset[int] | None:
    """Return which versions the client would change (`If-Match`, RFC 9110, 13.1.1); None: any.

    Of a tag that never was one of ours there is no version.
    """
    sent = request.if_match
    if "If-Match" not in request.headers or sent.star_tag:
        return None
    # Compression adds `:zstd` and the like to the tags that it sends out. An empty tag is None.
    tags = (tag.partition(":")[0] for tag in sent.as_set() if tag)
    return frozenset(int(tag) for tag in tags if _VERSION.fullmatch(tag))


def keyed_request(*, required: bool = True) -> Keyed:
    """Return the current request's idempotency key, and what the key stands for.

    Raises IdempotencyKeyRequired or BadRequest.
    """
    key = request.headers.get("Idempotency-Key")
    if key is None and required:
        raise errors.IdempotencyKeyRequired
    if key is not None and not _KEY.fullmatch(key):
        raise BadRequest("An Idempotency-Key is 1 to 255 visible ASCII characters.")
    identity = [
        request.method,
        route(),
        {name: str(value) for name, value in (request.view_args or {}).items()},
        sorted(request.args.items(multi=True)),
        _exact(g.get("body", {})),
    ]
    content = orjson.dumps(identity, option=orjson.OPT_SORT_KEYS)
    return Keyed(key=key, content=content, refuse=refusal)


def _exact(value: Any) -> Any:
    """Return a JSON value that orjson writes without loss: numbers become tagged text."""
    if isinstance(value, dict):
        return {name: _exact(inner) for name, inner in value.items()}
    if isinstance(value, list):
        return [_exact(inner) for inner in value]
    if isinstance(value, int | float) and not isinstance(value, bool):
        return {"": repr(value)}
    return value


def answer(
    data: Any, *, status: int = 200, location: str | None = None, etag: int | None = None
) -> Answer:
    """Return data as an Answer: the bytes that go out now and to every repeat."""
    tag = None if etag is None else f'"{etag}"'
    return Answer(status=status, body=dumps(data), location=location, etag=tag)


def nothing(_: object) -> Answer:
    """Return the Answer of what was done and has nothing to show."""
    return Answer(status=204, body=b"")


def refusal(error: AppError) -> Answer:
    """Return an error as an Answer, in the form that this client prefers."""
    status, body, content_type = errors.render(
        error,
        request_id=request.environ["bursar.request_id"],
        problem=errors.prefers_problem(request.headers.get("Accept")),
    )
    return Answer(status=status, body=body, content_type=content_type)


def reply(given: Answer) -> Response:
    """Return an Answer as a response."""
    response = Response(given.body, status=given.status, content_type=given.content_type)
    if not given.body:
        del response.headers["Content-Type"]
    response.headers["Cache-Control"] = NO_STORE
    if given.location is not None:
        response.headers["Location"] = given.location
    if given.etag is not None:
        response.headers["ETag"] = given.etag
    if given.replayed:
        response.headers["Idempotent-Replayed"] = "true"
    return response


def respond(
    data: Any,
    *,
    status: int = 200,
    location: str | None = None,
    etag: int | str | None = None,
    cache: str = NO_STORE,
    secret: bool = False,
) -> Response:
    """Return data as a JSON response; 304 when the client already has this `etag`.

    A `secret` answer (one with tokens) is never compressed: its length could give them away.
    """
    response = Response(dumps(data), status=status, content_type=errors.JSON)
    response.headers["Cache-Control"] = cache
    if location is not None:
        response.headers["Location"] = location
    if etag is not None:
        conditional(response, str(etag))
    if secret:
        request.environ["bursar.secret"] = True
    return response


def conditional(response: Response, etag: str) -> Response:
    """Give a response its `ETag`, and make it 304 when the client already has that version."""
    response.set_etag(etag)
    sent = request.if_none_match
    # Compression adds `:zstd` and the like to the tags that it sends out.
    known = any(sent.contains_weak(etag + suffix) for suffix in ("", ":zstd", ":br", ":gzip"))
    if known and request.method in ("GET", "HEAD"):
        response.status_code, response.response = 304, []
        del response.headers["Content-Type"], response.headers["Content-Length"]
    return response


def dumps(data: Any) -> bytes:
    """Return data as JSON: UUIDs as strings, times in UTC with `Z`."""
    return orjson.dumps(data, option=orjson.OPT_UTC_Z)
