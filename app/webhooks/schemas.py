"""Webhooks, on the wire."""

from marshmallow import Schema, fields, validate

from app.platform.fields import Flag, Text, Time
from app.platform.pagination import PageQuery
from app.webhooks.values import (
    ALL_EVENTS,
    DESCRIPTION_MAX,
    URL_MAX,
    DeliveryStatus,
    Event,
    Failure,
)

_NAMES = [ALL_EVENTS, *(event.value for event in Event)]
_EVENT = validate.OneOf(_NAMES)
_STATUS = validate.OneOf([status.value for status in DeliveryStatus])
_FAILURE = validate.OneOf([failure.value for failure in Failure])
_URL = "https://app.acme.org/bursar"
_EVENTS = ["credits.transferred", "order.paid"]
_DESCRIPTION = "Mirror of balances"


def _url(*, required: bool = False) -> Text:
    return Text(1, URL_MAX, required=required, metadata={"format": "uri", "example": _URL})


def _events(*, required: bool = False) -> fields.List[str]:
    return fields.List(
        fields.String(validate=_EVENT),
        required=required,
        validate=validate.Length(1, len(_NAMES)),
        metadata={"example": _EVENTS, "description": "`*` is every event."},
    )


class WebhookPatchIn(Schema):
    """What to change of a webhook."""

    url = _url()
    events = _events()
    description = Text(1, DESCRIPTION_MAX, allow_none=True, metadata={"example": _DESCRIPTION})
    active = Flag()


class WebhookIn(Schema):
    """Where to tell an app what."""

    url = _url(required=True)
    events = _events(required=True)
    description = Text(
        1, DESCRIPTION_MAX, load_default=None, allow_none=True, metadata={"example": _DESCRIPTION}
    )
    active = Flag(load_default=True)


class WebhookOut(Schema):
    """A webhook, without what signs."""

    id = fields.UUID()
    url = fields.String(metadata={"example": _URL})
    events = fields.List(fields.String(validate=_EVENT), metadata={"example": _EVENTS})
    description = fields.String(allow_none=True, metadata={"example": _DESCRIPTION})
    active = fields.Boolean()
    created_at = Time()
    updated_at = Time()


class IssuedWebhookOut(WebhookOut):
    """A webhook with the text of its secret, which is shown this once."""

    secret = fields.String(
        metadata={"description": "For libraries of Standard Webhooks; it can't be had again."}
    )


class WebhookListOut(Schema):
    """A page of webhooks, newest first."""

    items = fields.List(fields.Nested(WebhookOut))
    next_cursor = fields.String(allow_none=True)


class DeliveryQuery(PageQuery):
    """Which deliveries to list."""

    status = fields.String(validate=_STATUS)


class DeliveryOut(Schema):
    """One event for one webhook, and what has become of it."""

    id = fields.UUID()
    event_id = fields.UUID(metadata={"description": "The `webhook-id` of every try."})
    type = fields.String(validate=validate.OneOf([event.value for event in Event]))
    subject_id = fields.UUID(
        metadata={"description": "The user, transfer, hold or order that it is about."}
    )
    status = fields.String(validate=_STATUS)
    attempts = fields.Integer(metadata={"example": 1})
    next_try_at = Time(allow_none=True)
    last_try_at = Time(allow_none=True)
    last_status = fields.Integer(allow_none=True, metadata={"example": 200})
    last_error = fields.String(allow_none=True, validate=_FAILURE)
    created_at = Time()
    ended_at = Time(allow_none=True)


class DeliveryListOut(Schema):
    """A page of deliveries, newest first."""

    items = fields.List(fields.Nested(DeliveryOut))
    next_cursor = fields.String(allow_none=True)
