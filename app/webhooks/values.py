"""What can be told of, how deliveries are tried, and the limits."""

from datetime import timedelta
from enum import StrEnum
from typing import Final

# More than an app has servers that want to know. Each event makes so many deliveries at most.
WEBHOOKS_MOST: Final = 20
URL_MAX: Final = 2_000
DESCRIPTION_MAX: Final = 500
# What asks for every event, those of later versions too.
ALL_EVENTS: Final = "*"
# How long the secret before a rotation signs beside the new one.
OVERLAP: Final = timedelta(hours=24)
# Before each try, as Standard Webhooks proposes: together more than three days.
WAITS: Final = (
    timedelta(),
    timedelta(seconds=5),
    timedelta(minutes=5),
    timedelta(minutes=30),
    timedelta(hours=2),
    timedelta(hours=5),
    timedelta(hours=10),
    timedelta(hours=14),
    timedelta(hours=20),
    timedelta(hours=24),
)
# Each wait is longer by a random part of this share: endpoints that come back aren't overrun.
JITTER: Final = 0.1
# All of one try: looking the name up, connecting, sending, and the head of the answer.
TRY_SECONDS: Final = 5.0
# Longer than a try ever takes, with what is around it.
LEASE: Final = timedelta(seconds=30)
# What is read of an answer.
ANSWER_BYTES: Final = 65_536
# What `Retry-After` is heeded of: too many messages (RFC 6585, 4), or none for now.
ASK_FOR_TIME: Final = frozenset({429, 503})
LONGEST_PAUSE: Final = timedelta(days=1)
# What says that an endpoint will never be there again.
GONE: Final = 410
# What is looked up in the list, and replayed. The tries are over long before.
EVENTS_KEPT: Final = timedelta(days=30)


class Event(StrEnum):
    """What can happen, `subject.verb`; the triggers of the database write these very names.

    A name is never changed or reused once released: apps decide by it.
    """

    USER_CREATED = "user.created"
    USER_UPDATED = "user.updated"
    USER_SUSPENDED = "user.suspended"
    USER_REINSTATED = "user.reinstated"
    USER_DELETED = "user.deleted"
    USER_ERASED = "user.erased"
    CREDITS_GRANTED = "credits.granted"
    CREDITS_TRANSFERRED = "credits.transferred"
    CREDITS_CHARGED = "credits.charged"
    CREDITS_REVERSED = "credits.reversed"
    HOLD_PLACED = "hold.placed"
    HOLD_CAPTURED = "hold.captured"
    HOLD_RELEASED = "hold.released"
    HOLD_EXPIRED = "hold.expired"
    ORDER_PLACED = "order.placed"
    ORDER_PAID = "order.paid"
    ORDER_CANCELLED = "order.cancelled"
    ORDER_FULFILLED = "order.fulfilled"
    ORDER_REFUNDED = "order.refunded"


class DeliveryStatus(StrEnum):
    """How far a delivery has come."""

    PENDING = "pending"
    DELIVERED = "delivered"
    DEAD = "dead"


class Failure(StrEnum):
    """Why a try got no answer: all that is noted of it."""

    # The name leads nowhere at present.
    NAME_UNKNOWN = "name_unknown"
    # It leads only to addresses that we don't call, such as private ones; or to plain HTTP.
    ADDRESS_REFUSED = "address_refused"
    UNREACHABLE = "unreachable"
    TLS_FAILED = "tls_failed"
    TIMED_OUT = "timed_out"
    # It isn't HTTP, or its head is too long.
    BAD_ANSWER = "bad_answer"
    # None of our master keys opens the secret.
    UNSIGNED = "unsigned"
    # A mistake of ours; the log has it.
    INTERNAL = "internal"
