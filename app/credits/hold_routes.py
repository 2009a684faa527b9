"""`/api/v1/credits/holds`: credits that are set aside."""

from datetime import timedelta
from typing import Any
from uuid import UUID

from flask import Response

from app.credits import holds
from app.credits.errors import (
    HoldEnded,
    InsufficientCredits,
    LedgerFrozen,
    OthersHold,
    PayerNotFound,
)
from app.credits.hold_schemas import (
    CaptureIn,
    HoldIn,
    HoldListOut,
    HoldOut,
    HoldQuery,
)
from app.credits.holding import Hold
from app.platform import http, pagination
from app.platform.errors import Forbidden
from app.platform.fields import Compiled, Empty
from app.platform.guards import also_opened_by, current_actor
from app.platform.http import exists, fails, keyed
from app.platform.idempotency import Answer
from app.platform.replies import reply_once
from app.users.errors import StrongerUser

blp = http.Blueprint(
    "holds", __name__, url_prefix="/credits/holds", description="Credits that are set aside."
)

_hold = Compiled(HoldOut())


@blp.route("", methods=["POST"])
@also_opened_by(holds.MAY_TAKE)
@blp.arguments(HoldIn())
@blp.response(201, HoldOut())
@fails(InsufficientCredits, PayerNotFound, Forbidden, StrongerUser, LedgerFrozen)
@keyed
def create_hold(body: dict[str, Any]) -> Response:
    """Set credits aside, so that they are there to be taken later.

    Another user's need `credits:charge`.
    """
    actor, lifetime = current_actor(), timedelta(seconds=body.pop("expires_in"))
    # Before the key: what was answered to it before needs today's permission.
    holds.whose(actor=actor, user_id=body["user_id"])
    return reply_once(
        lambda session: holds.place(session, actor=actor, expires_in=lifetime, **body), _created
    )


@blp.route("")
@also_opened_by(holds.MAY_SEE)
@blp.arguments(HoldQuery(), location="query")
@blp.response(200, HoldListOut())
def list_holds(arguments: dict[str, Any]) -> Response:
    """Holds on the own account, newest first; everybody's with `credits:read`."""
    actor = current_actor()
    page = pagination.page(arguments, route="credits.holds", actor=actor)
    rows = holds.list_holds(
        actor=actor,
        status=arguments.get("status"),
        user_id=arguments.get("user_id"),
        after=page.after,
        limit=page.limit,
        offset=page.offset,
    )
    return http.respond(
        pagination.listing(
            page, rows, wire=_hold.one, key=lambda row: (row["created_at"], row["id"])
        )
    )


@blp.route("/<uuid:hold_id>")
@also_opened_by(holds.MAY_SEE)
@blp.response(200, HoldOut())
def get_hold(hold_id: UUID) -> Response:
    """A hold on the own account or placed by oneself; any with `credits:read`."""
    return http.respond(_hold.one(holds.look_for_hold(actor=current_actor(), hold_id=hold_id)))


def _look(hold_id: UUID) -> None:
    holds.look_to_end(actor=current_actor(), hold_id=hold_id)


@blp.route("/<uuid:hold_id>/capture", methods=["POST"])
@also_opened_by(holds.MAY_TAKE)
@exists(_look)
@blp.arguments(CaptureIn())
@blp.response(200, HoldOut())
@fails(HoldEnded, OthersHold, PayerNotFound, StrongerUser, LedgerFrozen)
@keyed
def capture_hold(body: dict[str, Any], hold_id: UUID) -> Response:
    """Take what a hold sets aside, or a part of it, as a charge; the rest is free again.

    For who placed it, or with `credits:charge`.
    """
    actor = current_actor()
    return reply_once(
        lambda session: holds.capture(session, actor=actor, hold_id=hold_id, **body), _shown
    )


@blp.route("/<uuid:hold_id>/release", methods=["POST"])
@also_opened_by(holds.MAY_TAKE)
@exists(_look)
@blp.arguments(Empty())
@blp.response(200, HoldOut())
@fails(HoldEnded, OthersHold, StrongerUser, LedgerFrozen)
@keyed
def release_hold(_body: dict[str, Any], hold_id: UUID) -> Response:
    """Let go what a hold sets aside. For who placed it, or with `credits:charge`."""
    actor = current_actor()
    return reply_once(lambda session: holds.release(session, actor=actor, hold_id=hold_id), _shown)


def _created(made: Hold) -> Answer:
    return http.answer(_hold.one(made), status=201, location=f"/api/v1/credits/holds/{made.id}")


def _shown(hold: Hold) -> Answer:
    return http.answer(_hold.one(hold))
