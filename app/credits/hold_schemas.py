"""What holds look like on the wire."""

from marshmallow import Schema, fields, validate

from app.credits.values import HOLD_LIFETIME, LONGEST_HOLD, MAX_MEMO, HoldStatus
from app.platform.fields import Credits, Text, Time, Whole
from app.platform.pagination import PageQuery

_STATUS = validate.OneOf([status.value for status in HoldStatus])
_USER_ID = "01936f3a-1b2c-7a10-8c4d-2e5f7a9b0c3d"


class HoldIn(Schema):
    """Credits to set aside: one's own, or another user's."""

    amount = Credits(required=True, metadata={"example": 100})
    user_id = fields.UUID(load_default=None, metadata={"example": _USER_ID})
    expires_in = Whole(
        1,
        int(LONGEST_HOLD.total_seconds()),
        load_default=int(HOLD_LIFETIME.total_seconds()),
        metadata={"description": "Seconds.", "example": 3600},
    )
    memo = Text(1, MAX_MEMO, load_default=None, metadata={"example": "Up to 20 pages"})


class CaptureIn(Schema):
    """How much of a hold to take; all of it without an amount."""

    amount = Credits(load_default=None, metadata={"example": 60})


class HoldQuery(PageQuery):
    """Which holds to list."""

    status = fields.String(validate=_STATUS)
    user_id = fields.UUID()


class HoldOut(Schema):
    """Credits that are set aside. What wasn't `captured` of the amount is free again at its end."""

    id = fields.UUID()
    user_id = fields.UUID(metadata={"example": _USER_ID})
    amount = fields.Integer(metadata={"example": 100})
    captured = fields.Integer(metadata={"example": 0})
    status = fields.String(validate=_STATUS)
    expires_at = Time()
    memo = fields.String(allow_none=True)
    created_at = Time()


class HoldListOut(Schema):
    """A page of holds, newest first."""

    items = fields.List(fields.Nested(HoldOut()))
    next_cursor = fields.String(allow_none=True)
