"""`/api/v1/idempotency`: what has become of a key, for a client that lost the answer."""

from typing import Any

from flask import Response
from marshmallow import Schema, fields, validate
from sqlalchemy import text

from app.platform import clock, http
from app.platform.actor import Actor
from app.platform.db import reading
from app.platform.errors import IdempotencyKeyRequired
from app.platform.fields import Compiled
from app.platform.guards import current_actor
from app.platform.http import fails
from app.platform.idempotency import FIND, LIFETIME, lock_of
from app.platform.openapi import KEY_PARAMETER

COMPLETED, IN_PROGRESS, UNKNOWN = "completed", "in_progress", "unknown"
# An advisory lock of 64 bits is shown as two numbers of 32.
_IS_TAKEN = text(
    """
    SELECT EXISTS (
        SELECT FROM pg_locks
        WHERE locktype = 'advisory' AND granted AND objsubid = 1
            AND database = (SELECT oid FROM pg_database WHERE datname = current_database())
            AND (classid::bigint << 32) | objid::bigint = CAST(:lock AS bigint)
    )
    """
)
blp = http.Blueprint(
    "idempotency", __name__, url_prefix="/idempotency", description="Keys of repeatable requests."
)


class KeyStatusOut(Schema):
    """What has become of a key. The last two are null unless it is completed."""

    status = fields.String(validate=validate.OneOf([COMPLETED, IN_PROGRESS, UNKNOWN]))
    http_status = fields.Integer(allow_none=True, metadata={"example": 201})
    location = fields.String(allow_none=True)


_status = Compiled(KeyStatusOut())


@blp.route("")
@blp.response(200, KeyStatusOut())
@blp.doc(parameters=[KEY_PARAMETER | {"required": True}])
@fails(IdempotencyKeyRequired)
def get_key_status() -> Response:
    """What has become of the key in `Idempotency-Key`, which this call doesn't use up.

    `unknown` also when its request failed in a way that may be tried again.
    """
    key = http.keyed_request().key
    return http.respond(_status.one(status(actor=current_actor(), key=key or "")))


def status(*, actor: Actor, key: str) -> dict[str, Any]:
    """Return what has become of the actor's key: `status`, `http_status` and `location`.

    Looks without taking the key, so that asking never hinders the request that it is about.

    Raises Unavailable.
    """
    used = {"user_id": actor.user_id, "key": key, "oldest": clock.now() - LIFETIME}
    with reading() as connection:
        # First the lock and then the row, or a request that ends in between would be unknown.
        lock = lock_of(actor.user_id, key)
        running = connection.execute(_IS_TAKEN, {"lock": lock}).scalar_one()
        row = connection.execute(FIND, used).one_or_none()
    if row is not None:
        return {"status": COMPLETED, "http_status": row.status, "location": row.location}
    return {
        "status": IN_PROGRESS if running else UNKNOWN,
        "http_status": None,
        "location": None,
    }
