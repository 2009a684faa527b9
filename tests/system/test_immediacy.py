"""What ends a right ends it on the very next request, on every worker of every server."""

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass

import pytest
from flask import Flask

from app import configure, create_app
from app.platform.settings import Settings
from tests import people, tracing
from tests.database import Databases, pool_on, variables
from tests.people import PASSWORD, TestUser
from tests.server.serving import Answer, serving
from tests.server.visiting import Visitor, visitor_of_each_worker

ME = "/api/v1/users/me"
NEW_PASSWORD = "another-Passphrase-of-mine"


@dataclass(frozen=True, kw_only=True)
class Place:
    """Two servers with two workers each, on one database, and a visitor for each worker."""

    app: Flask
    admin: TestUser
    visitors: list[Visitor]


@dataclass(frozen=True, kw_only=True)
class Case:
    """A user with two login sessions, and who does something about them through which worker."""

    visitor: Visitor
    admin: TestUser
    user: TestUser
    other_token: str

    def by_user(self, method: str, path: str, body: object = None) -> Answer:
        """Ask as the user does in the first login session."""
        return self.visitor.request(method, path, body=body, token=self.user.token)

    def by_other(self, method: str, path: str, body: object = None) -> Answer:
        """Ask as the user does in the other login session."""
        return self.visitor.request(method, path, body=body, token=self.other_token)

    def by_admin(self, method: str, path: str, body: object = None) -> Answer:
        """Ask as an administrator does about the user."""
        url = f"/api/v1/users/{self.user.id}{path}"
        return self.visitor.request(method, url, body=body, token=self.admin.token)


@pytest.fixture(scope="module")
def place(
    databases: Databases,
    settings: Settings,
    pool: None,
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[Place]:
    with databases.fresh() as fresh, pool_on(fresh, instead_of=settings), ExitStack() as running:
        app = create_app(fresh)
        # Tokens are good everywhere: same database, secrets and issuer.
        given = variables(fresh) | {"APP_AUTH_ISSUER": fresh.auth_issuer}
        given |= {"APP_SERVER_WORKERS": "2", "APP_DATABASE_MAX_CONNECTIONS": "4"}
        given |= tracing.variables()
        visitors = []
        for name in ("one", "two"):
            server = running.enter_context(
                serving(tmp_path_factory.mktemp(name), app=None, **given)
            )
            visitors += running.enter_context(visitor_of_each_worker(server, workers=2))
        yield Place(app=app, admin=people.make_user(app, roles=("admin",)), visitors=visitors)
    configure(settings)


def case_at(place: Place, visitor: Visitor, *, roles: tuple[str, ...] = ()) -> Case:
    """Return a new user whom every worker knows from a request in each login session."""
    user = people.make_user(place.app, roles=roles)
    tokens = visitor.post("/api/v1/auth/login", {"email": user.email, "password": PASSWORD}).json
    other = tokens["access_token"]
    for each in place.visitors:
        assert each.get(ME, token=user.token).status == 200
        assert each.get(ME, token=other).status == 200
    return Case(visitor=visitor, admin=place.admin, user=user, other_token=other)


ENDS: dict[str, tuple[Callable[[Case], Answer], int, int]] = {
    "logout": (lambda case: case.by_user("POST", "/api/v1/auth/logout"), 204, 200),
    "logout by refresh token": (
        lambda case: case.visitor.post(
            "/api/v1/auth/logout", {"refresh_token": case.user.refresh_token}
        ),
        204,
        200,
    ),
    "logout everywhere": (lambda case: case.by_other("POST", "/api/v1/auth/logout-all"), 204, 401),
    "one login session ended": (
        lambda case: case.by_other("DELETE", f"{ME}/sessions/{case.user.session_id}"),
        204,
        200,
    ),
    "the others ended": (lambda case: case.by_other("DELETE", f"{ME}/sessions"), 204, 200),
    "password changed": (
        lambda case: case.by_other(
            "PUT",
            f"{ME}/password",
            {"current_password": PASSWORD, "new_password": NEW_PASSWORD},
        ),
        204,
        200,
    ),
    "suspended": (lambda case: case.by_admin("POST", "/suspend", {"reason": "test"}), 200, 401),
    "ended by staff": (lambda case: case.by_admin("DELETE", "/sessions"), 204, 401),
}


@pytest.mark.parametrize("how", ENDS)
def test_an_access_token_is_dead_on_the_next_request_wherever_that_arrives(
    place: Place, how: str
) -> None:
    end, done, others = ENDS[how]
    for visitor in place.visitors:
        case = case_at(place, visitor)
        assert end(case).status == done
        answers = [each.get(ME, token=case.user.token) for each in place.visitors]
        assert [answer.status for answer in answers] == [401] * 4
        for answer in answers:
            assert answer.json["error"]["code"] == "UNAUTHENTICATED"
            assert answer.headers["WWW-Authenticate"] == "Bearer"
        kept = [each.get(ME, token=case.other_token).status for each in place.visitors]
        assert kept == [others] * 4


@pytest.mark.parametrize("how", ["deleted", "rotated", "its owner suspended"])
def test_an_api_key_is_dead_on_the_next_request_wherever_that_arrives(
    place: Place, how: str
) -> None:
    for visitor in place.visitors:
        case = case_at(place, visitor)
        key = people.make_api_key(case.user, "self:read")
        assert [each.get(ME, token=key).status for each in place.visitors] == [200] * 4
        url = f"/api/v1/api-keys/{people.id_of_key(key)}"
        if how == "deleted":
            assert case.by_user("DELETE", url).status == 204
        elif how == "rotated":
            assert case.by_user("POST", f"{url}/rotate", {"overlap_seconds": 0}).status == 201
        else:
            assert case.by_admin("POST", "/suspend", {"reason": "test"}).status == 200
        assert [each.get(ME, token=key).status for each in place.visitors] == [401] * 4


def test_roles_count_on_the_next_request_and_the_token_stays_good(place: Place) -> None:
    for visitor in place.visitors:
        case = case_at(place, visitor)
        for roles, seen in ((["support"], 200), ([], 403), (["finance"], 200), (["user"], 403)):
            assert case.by_admin("PUT", "/roles", {"roles": roles}).status == 200
            for each in place.visitors:
                assert each.get("/api/v1/users", token=case.user.token).status == seen
                assert each.get(ME, token=case.user.token).status == 200


def test_a_suspended_user_may_sign_in_again_on_the_next_request_after_the_reinstatement(
    place: Place,
) -> None:
    for visitor in place.visitors:
        case = case_at(place, visitor)
        body = {"email": case.user.email, "password": PASSWORD}
        for path, given, signed_in in (
            ("/suspend", {"reason": "test"}, 403),
            ("/reinstate", {}, 200),
        ):
            assert case.by_admin("POST", path, given).status == 200
            for each in place.visitors:
                assert each.post("/api/v1/auth/login", body).status == signed_in
        # Login sessions that a suspension has ended stay ended.
        assert case.by_user("GET", ME).status == 401
