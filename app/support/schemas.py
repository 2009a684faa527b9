"""Deletion and exports on the wire."""

from marshmallow import Schema, fields, validate

from app.platform.fields import Flag, Time
from app.support.values import ExportStatus
from app.users.schemas import Password, UserOut

_FORFEIT = {"description": "Give up the credits that are left."}


class OwnDeletionIn(Schema):
    """The password, as proof, and whether credits that are left may be lost."""

    password = Password(1, required=True)
    forfeit = Flag(load_default=False, metadata=_FORFEIT)


class DeletionIn(Schema):
    """Whether credits that are left may be lost."""

    forfeit = Flag(load_default=False, metadata=_FORFEIT)


class ExportOut(Schema):
    """An export: `pending` while it is made, `ready` once it can be fetched."""

    id = fields.UUID()
    status = fields.String(validate=validate.OneOf([status.value for status in ExportStatus]))


class ArchiveOut(Schema):
    """Everything that is known of a user, the oldest first in each list."""

    made_at = Time()
    user = fields.Nested(UserOut)
    balance = fields.Dict()
    login_sessions = fields.List(fields.Dict())
    api_keys = fields.List(fields.Dict())
    mails = fields.List(fields.Dict())
    audit_events = fields.List(fields.Dict())
    entries = fields.List(fields.Dict())
