"""Staff changes the names and addresses of users."""

from typing import Any

from werkzeug.test import TestResponse

from tests import people
from tests.auth.moving import VERIFY, MakeUser, Sql, events, follow, new_address
from tests.auth.refreshing import outcome
from tests.client import Client
from tests.mailing import Postman
from tests.people import SET_STATUS, TestUser


def test_staff_changes_name_and_address_at_once(
    client: Client, make_user: MakeUser, admin: TestUser, postman: Postman, sql: Sql
) -> None:
    user, email = make_user(name="Ada", verified=True), new_address()
    path = f"/api/v1/users/{user.id}"
    answer = client.put(path, token=admin.token, json={"name": "Ada King", "email": email})
    assert answer.status_code == 200
    assert (answer.json["name"], answer.json["email"]) == ("Ada King", email)
    assert answer.json["email_verified"] is False
    action, personal = events(sql, user)[-1]
    assert action == "users.user.changed"
    assert personal["before"] == {"name": "Ada", "email": user.email}
    assert personal["after"] == {"name": "Ada King", "email": email}
    (welcome,) = postman.deliver(email=email)
    (notice,) = postman.deliver(email=user.email)
    assert (welcome.kind, notice.kind) == ("verify", "change_notice")
    assert follow(client, VERIFY, welcome).status_code == 204
    assert client.get(path, token=admin.token).json["email_verified"] is True


def test_staff_changes_one_thing_of_the_version_that_it_knows(
    client: Client, make_user: MakeUser, admin: TestUser
) -> None:
    user, other = make_user(), make_user()
    path = f"/api/v1/users/{user.id}"

    def patch(**options: Any) -> TestResponse:
        return client.patch(path, token=admin.token, **options)

    assert patch(json={"name": "B"}, headers={"If-Match": '"1"'}).json["name"] == "B"
    stale = patch(json={"name": "C"}, headers={"If-Match": '"1"'})
    assert outcome(stale) == (412, "PRECONDITION_FAILED")
    assert outcome(patch(json={"email": other.email})) == (409, "EMAIL_TAKEN")
    both = {"name": "C", "email": other.email}
    assert outcome(client.put(path, token=admin.token, json=both)) == (409, "EMAIL_TAKEN")
    old = {"If-Match": '"1"'}
    stale = client.put(path, token=admin.token, json=both, headers=old)
    assert outcome(stale) == (412, "PRECONDITION_FAILED")
    assert outcome(client.put(path, token=admin.token, json={"name": "D"})) == (
        422,
        "VALIDATION_ERROR",
    )


def test_nobody_is_changed_who_is_going(
    client: Client, make_user: MakeUser, admin: TestUser, sql: Sql
) -> None:
    user = make_user()
    sql(SET_STATUS, status="deleting", id=user.id)
    path = f"/api/v1/users/{user.id}"
    assert outcome(client.patch(path, token=admin.token, json={"name": "B"})) == (
        409,
        "INVALID_STATE",
    )
    reset = client.post(f"{path}/password-reset", token=admin.token)
    assert outcome(reset) == (409, "INVALID_STATE")


def test_staff_changes_its_own_address_as_everybody_does_and_no_key_changes_one(
    client: Client, make_user: MakeUser, admin: TestUser
) -> None:
    key = people.make_api_key(admin, "users:write")
    for token, user in ((admin.token, admin), (key, make_user())):
        path = f"/api/v1/users/{user.id}"
        answer = client.patch(path, token=token, json={"email": new_address()})
        assert outcome(answer) == (403, "FORBIDDEN")
        assert client.patch(path, token=token, json={"name": "Other"}).status_code == 200
