"""Who gets what from every route: each cell of the tables is really requested.

A route without a row fails. Whoever changes something gets objects of their own, so that no cell
sees what another one has changed.
"""

import re
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import cache, partial
from typing import Any
from uuid import uuid4

import pytest
from flask import Flask
from werkzeug.routing import Rule

from app.auth.values import SCOPES
from app.platform import guards
from tests import people
from tests.access_table import ANYONE, KEYS, MATRIX, ON_WHOM, READ_ONE, STAFF, WHO
from tests.people import TestUser
from tests.scenes import Scene, Sql, ask, path_of, suspend
from tests.tracing import unfollowed

pytestmark = unfollowed


def scope_without(call: str) -> str:
    """Return a scope that doesn't open the call."""
    return "audit:read" if re.search("/(products|discounts)", call) else "catalogue:write"


def make_actor(app: Flask, who: str, scope: str) -> TestUser:
    """Return a new one of WHO that asks; `key without` has only this scope."""
    roles = () if who in ("other", "suspended") else ("admin",) if who in KEYS else (who,)
    made = people.make_user(app, credits=1000, roles=roles)
    if who in KEYS:
        scopes = sorted(SCOPES) if who == "key" else [scope]
        made = replace(made, token=people.make_api_key(made, *scopes))
    if who == "suspended":
        suspend(made)
    return made


@pytest.fixture(scope="module")
def regular(app: Flask) -> Callable[..., TestUser]:
    """A function that returns who asks for what changes nothing: each time the same."""
    return cache(partial(make_actor, app))


@pytest.fixture
def scene(app: Flask, sql: Sql, regular: Callable[..., TestUser]) -> Callable[..., Scene]:
    """A function that returns a scene for one of WHO, about a user with these roles.

    What `changes` something gets people of its own. A key without its scope has another one than
    the call needs.
    """
    make_owner = partial(people.make_user, app, credits=1000)
    owner_of = cache(lambda roles: make_owner(roles=roles))

    def make(who: str, *, of: tuple[str, ...] = (), call: str = "", changes: bool = True) -> Scene:
        # Who has to be suspended for a call is so from then on, and doesn't ask again.
        owner = make_owner(roles=of) if changes or who == "user" else owner_of(of)
        actor = None
        if who == "user":
            actor = owner
        elif who != "anonymous":
            make_or_find = partial(make_actor, app) if changes else regular
            actor = make_or_find(who, scope_without(call) if who == "key without" else "")
        return Scene(app=app, sql=sql, owner=owner, actor=actor)

    return make


def calls_of(rule: Rule) -> Iterator[str]:
    return (f"{method} {rule.rule}" for method in (rule.methods or set()) - {"HEAD", "OPTIONS"})


def test_every_route_has_a_row(app: Flask) -> None:
    found = {call for rule in app.url_map.iter_rules() for call in calls_of(rule)}
    assert set(MATRIX) == found
    assert {len(codes) for codes in MATRIX.values()} == {len(WHO)}


@pytest.mark.parametrize("call", MATRIX)
def test_each_gets_what_the_table_says(call: str, scene: Callable[..., Scene]) -> None:
    said = dict(zip(WHO, MATRIX[call], strict=True))
    found = {}
    for who, code in said.items():
        changes = code < 400 and not call.startswith("GET ")
        found[who] = ask(call, scene(who, call=call, changes=changes)).status_code
    assert found == said


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
        or call.endswith(("/grants", "/charges", "/reverse", "/fulfil", "/refund"))
        for who, code in zip(WHO, codes, strict=True)
        if code < 400 and who not in KEYS
    }
    assert on_somebody == set(STAFF)


@pytest.mark.parametrize(("call", "who"), STAFF)
def test_staff_acts_on_nobody_who_may_more(
    call: str, who: str, scene: Callable[..., Scene]
) -> None:
    found = {}
    said = dict(zip(ON_WHOM, STAFF[call, who], strict=True))
    for whom, code in said.items():
        made = scene(
            "user" if whom == "oneself" else who, of=roles_of(whom, who), changes=code < 400
        )
        found[whom] = ask(call, made).status_code
    assert found == said


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
        made = scene(who, call=call, changes=False)
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
    """Return a call's path, with ids of nothing."""
    return re.sub("<uuid:[^>]*>", lambda _: str(uuid4()), call.partition(" ")[2])
