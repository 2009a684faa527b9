"""What credits look like on the wire."""

from marshmallow import Schema, fields, validate

from app.credits.values import MAX_BATCH, MAX_MEMO, TransferKind
from app.platform.fields import Credits, Text, Time

_KIND = validate.OneOf([kind.value for kind in TransferKind])
_TRANSFER_ID = "01936f3a-5c1e-7d42-9b0a-6f2d8e4c1a57"
_USER_ID = "01936f3a-1b2c-7a10-8c4d-2e5f7a9b0c3d"


class TransferIn(Schema):
    """A transfer to another user."""

    to_user_id = fields.UUID(required=True, metadata={"example": _USER_ID})
    amount = Credits(required=True, metadata={"example": 250})
    memo = Text(1, MAX_MEMO, load_default=None, metadata={"example": "Lunch"})


class BatchIn(Schema):
    """Several transfers, all or none."""

    transfers = fields.List(
        fields.Nested(TransferIn()), required=True, validate=validate.Length(1, MAX_BATCH)
    )


class ReverseIn(Schema):
    """Why a transfer is taken back."""

    reason = Text(1, MAX_MEMO, required=True, metadata={"example": "Sent twice by mistake"})


class TransferQuery(Schema):
    """How to make a transfer."""

    dry_run = fields.Boolean(
        load_default=False,
        truthy={"true"},
        falsy={"false"},
        metadata={"description": "Check everything, answer 200, and change nothing."},
    )


class GrantIn(Schema):
    """New credits for a user."""

    user_id = fields.UUID(required=True, metadata={"example": _USER_ID})
    amount = Credits(required=True, metadata={"example": 1000})
    memo = Text(1, MAX_MEMO, required=True, metadata={"example": "Welcome"})


class ChargeIn(Schema):
    """Credits that a user pays for something."""

    user_id = fields.UUID(required=True, metadata={"example": _USER_ID})
    amount = Credits(required=True, metadata={"example": 5})
    memo = Text(1, MAX_MEMO, required=True, metadata={"example": "12 pages translated"})


class TransferOut(Schema):
    """One movement of credits. The id of a house account's user is null."""

    id = fields.UUID(metadata={"example": _TRANSFER_ID})
    kind = fields.String(validate=_KIND)
    from_user_id = fields.UUID(allow_none=True)
    to_user_id = fields.UUID(allow_none=True)
    amount = fields.Integer(metadata={"example": 250})
    memo = fields.String(allow_none=True)
    reverses_id = fields.UUID(allow_none=True)
    order_id = fields.UUID(allow_none=True)
    created_at = Time()


class BatchOut(Schema):
    """The transfers that were made, in the order of the request."""

    items = fields.List(fields.Nested(TransferOut()))


class BalanceOut(Schema):
    """What an account holds: `available` is `balance` less what is `held` back."""

    balance = fields.Integer(metadata={"example": 1000})
    held = fields.Integer(metadata={"example": 0})
    available = fields.Integer(metadata={"example": 1000})


class EntryOut(Schema):
    """One line of an account. `amount` is negative when credits left it."""

    id = fields.UUID()
    transfer_id = fields.UUID(metadata={"example": _TRANSFER_ID})
    kind = fields.String(validate=_KIND)
    amount = fields.Integer(metadata={"example": -250})
    balance_after = fields.Integer(metadata={"example": 750})
    memo = fields.String(allow_none=True)
    created_at = Time()


class EntryListOut(Schema):
    """A page of entries, the last posted first."""

    items = fields.List(fields.Nested(EntryOut()))
    next_cursor = fields.String(allow_none=True)


class AccountOut(BalanceOut):
    """What a user's account holds, and its latest entries, the last posted first."""

    entries = fields.List(fields.Nested(EntryOut()))
