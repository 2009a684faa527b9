"""Audit events on the wire."""

from marshmallow import Schema, fields, validate

from app.audit.actions import Action
from app.platform.fields import Text, Time
from app.platform.pagination import PageQuery


class EventOut(Schema):
    """An audit event, for staff."""

    id = fields.UUID()
    action = fields.String(metadata={"example": Action.TRANSFER_CREATED.value})
    actor_id = fields.UUID(allow_none=True)
    actor_kind = fields.String(validate=validate.OneOf(("user", "api_key", "cli", "system")))
    subject_type = fields.String()
    subject_id = fields.UUID(allow_none=True)
    request_id = fields.String(allow_none=True)
    address = fields.String(allow_none=True)
    details = fields.Dict()
    created_at = Time()


class EventListOut(Schema):
    """A page of audit events, newest first."""

    items = fields.List(fields.Nested(EventOut))
    next_cursor = fields.String(allow_none=True)


class EventListQuery(PageQuery):
    """Which audit events to list; both times are exclusive."""

    actor_id = fields.UUID()
    action = fields.String(validate=validate.OneOf([action.value for action in Action]))
    subject_id = fields.UUID()
    request_id = Text(1, 128)
    created_after = Time()
    created_before = Time()


class SecurityLogEntryOut(Schema):
    """An event about the user who reads it."""

    id = fields.UUID()
    action = fields.String(metadata={"example": Action.SESSION_STARTED.value})
    by = fields.String(validate=validate.OneOf(("you", "staff", "system")))
    address = fields.String(allow_none=True)
    created_at = Time()


class SecurityLogOut(Schema):
    """A page of the security log, newest first."""

    items = fields.List(fields.Nested(SecurityLogEntryOut))
    next_cursor = fields.String(allow_none=True)
