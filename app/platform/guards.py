"""Decides who may call a view. Every view needs a signed-in user unless it says otherwise.

`@public` opens a view to everyone, `@requires("users:read")` asks for a permission before anything
is looked up, `@or_other_proof` takes an access token or what the view asks for in its place,
`@requires_where` asks for a permission in some of a public view's requests. A test pins the access
of every view. Before it runs the request is counted: by user when somebody is signed in, by API key
when a program asks, else by network address, but for `@counts_itself`, `@counted_if_refused` and
`@counted_as_file`.

An API key opens a view that asks for a permission if that is among its scopes, and any other one by
`self:read` or `self:write`, or by a permission that `@also_opened_by` names. `@never_for_keys` is
for what only people do; a test names these views as well.
"""

from collections.abc import Callable
from functools import wraps
from typing import Any, NamedTuple, Protocol, TypeVar

from flask import Flask, current_app, g, request

from app.platform import ratelimit
from app.platform.actor import SELF_READ, SELF_WRITE, Actor
from app.platform.errors import AppError, Forbidden, TooManyRequests, Unauthenticated
from app.platform.overload import PROBES

View = TypeVar("View", bound=Callable[..., Any])
PUBLIC = "public"
OPTIONAL = "signed in, or proven by body or cookie"
SIGNED_IN = "signed in"
NEVER = "never"
AS_FILE = "as a file"


class Authenticate(Protocol):
    """Turns an access token into the actor it stands for, or raises Unauthenticated."""

    def __call__(
        self, token: str, *, request_id: str, address: str | None, user_agent: str | None
    ) -> Actor:
        """Return who is asking."""


RecordDenied = Callable[[Actor, str, str], None]


class Condition(NamedTuple):
    """Which value of a query parameter asks for which permission."""

    parameter: str
    value: str
    permission: str


def public(view: View) -> View:
    """Let everyone call the view, signed in or not."""
    vars(view)["access"] = PUBLIC
    return view


def or_other_proof(view: View) -> View:
    """Take an access token when one is sent; without one the view asks for another proof."""
    vars(view)["access"] = OPTIONAL
    return view


def requires(permission: str) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Let only actors with the permission call the view; others get 403 before any look-up.

    That is recorded, and so is a view's own Forbidden: staff went further than it may.
    """

    def mark(view: Callable[..., Any]) -> Callable[..., Any]:
        @wraps(view)
        def recorded(**ids: Any) -> Any:
            try:
                return view(**ids)
            except Forbidden:
                # Around the view's transaction, which leaves nothing behind when it is refused.
                record_denial(permission)
                raise

        vars(recorded)["access"] = permission
        return recorded

    return mark


def requires_where(parameter: str, value: str, *, permission: str) -> Callable[[View], View]:
    """Ask for a permission where the query has this value; otherwise the view is as it is marked.

    For a public view that shows more to staff. It is asked for as early as anywhere: a stranger
    learns nothing of what else the query might be wrong about.
    """

    def mark(view: View) -> View:
        vars(view)["asks_where"] = Condition(parameter, value, permission)
        return view

    return mark


def never_for_keys(view: View) -> View:
    """Refuse every API key, whatever its scopes: a stolen one must not get more than it opens."""
    vars(view)["keys"] = NEVER
    return view


def also_opened_by(permission: str) -> Callable[[View], View]:
    """Let an API key with the permission call a view that shows others' things to staff.

    Or a program that may read every user would have to be allowed its owner's own things as well.
    """

    def mark(view: View) -> View:
        vars(view)["keys"] = permission
        return view

    return mark


def record_denial(permission: str) -> None:
    """Record that whoever asks went further than they may: they lack the permission.

    Raises Unavailable.
    """
    record: RecordDenied = current_app.extensions["bursar_record_denied"]
    record(current_actor(), permission, request.environ["bursar.route"])


def counts_itself(view: View) -> View:
    """Say that the view counts requests of nobody in particular, once it knows whose they are."""
    vars(view)["counted"] = "by the view"
    return view


def counted_as_file(view: View) -> View:
    """Count a public view's requests with those for other files, and many at once.

    For answers that take less than counting each of them in the store that all workers share.
    """
    vars(view)["counted"] = AS_FILE
    return view


def counted_if_refused(view: Callable[..., Any]) -> Callable[..., Any]:
    """Count a request without an access token only once it is refused.

    For views that ask for another proof which nobody can guess: whoever has it gets in, also from a
    network address whose requests others have used up.
    """

    @wraps(view)
    def counted(**ids: Any) -> Any:
        try:
            return view(**ids)
        except AppError as refusal:
            # Who has used up a limit of their own has proven who they are.
            counts = refusal.status < 500 and not isinstance(refusal, TooManyRequests)
            actor = current_actor()
            if actor.kind == "anonymous" and counts:
                ratelimit.take_of_address(actor.address)
            raise

    vars(counted)["counted"] = "if refused"
    return counted


def access(view: Callable[..., Any]) -> str:
    """Return what a view asks for: PUBLIC, OPTIONAL, SIGNED_IN or the name of a permission."""
    asked: str = vars(view).get("access", SIGNED_IN)
    return asked


def condition(view: Callable[..., Any]) -> Condition | None:
    """Return which of a view's requests ask for a permission that the others don't, if any do."""
    found: Condition | None = vars(view).get("asks_where")
    return found


def is_permission(asked: str) -> bool:
    """Tell whether a view asks for a permission, beyond who is asking."""
    return asked not in (PUBLIC, OPTIONAL, SIGNED_IN)


def scopes_for(view: Callable[..., Any], method: str) -> list[str]:
    """Return the scopes of which an API key needs one for a view; nothing opens one of NEVER."""
    asked, keys = access(view), vars(view).get("keys")
    if keys == NEVER:
        return []
    if is_permission(asked):
        return [asked]
    own = SELF_READ if method.upper() in ("GET", "HEAD") else SELF_WRITE
    return [own] if keys is None else [own, keys]


def current_actor() -> Actor:
    """Return who is asking in this request; on public views an anonymous actor."""
    actor: Actor = g.actor
    return actor


def install(app: Flask, *, authenticate: Authenticate, record_denied: RecordDenied) -> None:
    """Check every request of the application before its view runs.

    A denied permission is recorded through `record_denied(actor, permission, route)`.
    """

    def check() -> None:
        rule = request.url_rule
        if rule is None or request.method == "OPTIONS":
            return  # Nothing to guard: the answer is 404, 405 or the list of methods.
        environ = request.environ
        environ["bursar.route"] = rule.rule
        origin = {
            "request_id": environ["bursar.request_id"],
            "address": environ["bursar.address"],
            "user_agent": environ.get("HTTP_USER_AGENT"),
        }
        view = app.view_functions[rule.endpoint]
        asked = _asked(view)
        g.actor = Actor(kind="anonymous", **origin)
        if asked == PUBLIC:
            counted = vars(view).get("counted")
            if counted in (None, AS_FILE) and rule.rule not in PROBES:
                ratelimit.take_of_address(origin["address"], of_file=counted == AS_FILE)
            return
        try:
            g.actor = actor = authenticate(_bearer_token(), **origin)
        except Unauthenticated:
            # Not counted by address: whose access token has just run out must learn so, however
            # busy the neighbours are, and nobody gets anywhere by making tokens up.
            if asked == OPTIONAL:
                return
            raise
        environ["bursar.user_id"] = actor.user_id
        ratelimit.spend_of_user(actor.api_key_id or actor.user_id)
        try:
            _check(actor, view, asked)
        except Forbidden:
            if is_permission(asked):
                record_denial(asked)
            raise

    app.extensions["bursar_record_denied"] = record_denied
    app.before_request(check)


def _asked(view: Callable[..., Any]) -> str:
    """Return what the current request of a view asks for."""
    where = condition(view)
    # All values count: one that is sent twice is refused, and not before this.
    if where is not None and where.value in request.args.getlist(where.parameter):
        return where.permission
    return access(view)


def _check(actor: Actor, view: Callable[..., Any], asked: str) -> None:
    """Raise Forbidden unless the actor may call the view, of which this request asks so much."""
    if actor.api_key_id is not None:
        scopes = scopes_for(view, request.method)
        if scopes and is_permission(asked):
            scopes = [asked]
        if not scopes:
            raise Forbidden("An API key can't do this. Sign in with a password.")
        if not any(scope in actor.scopes for scope in scopes):
            raise Forbidden(f"This needs an API key with the scope {' or '.join(scopes)}.")
    # The owner of a key may have lost what it was made with.
    if is_permission(asked) and not actor.may(asked):
        raise Forbidden


def _bearer_token() -> str:
    """Return the token of the `Authorization` header (RFC 6750, section 2.1)."""
    scheme, _, token = request.headers.get("Authorization", "").partition(" ")
    if scheme.lower() != "bearer" or not token:
        raise Unauthenticated
    return token.strip()
