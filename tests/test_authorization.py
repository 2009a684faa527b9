"""Who gets what from every route: each cell of the tables is really requested.

A route without a row fails. Objects are made anew for each cell, so that no cell sees what another
one has changed.
"""

import re
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any
from uuid import uuid4

import pytest
from flask import Flask
from werkzeug.routing import Rule

from app.auth.values import SCOPES
from app.platform import guards
from tests import people
from tests.access_table import ANYONE, KEYS, MATRIX, ON_WHOM, READ_ONE, STAFF, WHO
from tests.scenes import Scene, Sql, ask, path_of, suspend
from tests.tracing import unfollowed

pytestmark = unfollowed


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
    """Return a call's path, with ids of nothing."""
    return re.sub("<uuid:[^>]*>", lambda _: str(uuid4()), call.partition(" ")[2])
