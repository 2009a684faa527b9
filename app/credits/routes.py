"""`/api/v1/credits`: balance, entries, transfers, grants and charges."""

from typing import Any
from uuid import UUID

from flask import Response

from app.credits import service
from app.credits.errors import (
    BalanceLimit,
    InsufficientCredits,
    PayerNotFound,
    RecipientNotFound,
    SelfGrant,
    SelfTransfer,
)
from app.credits.ledger import Transfer
from app.credits.schemas import (
    BalanceOut,
    ChargeIn,
    EntryListOut,
    EntryOut,
    GrantIn,
    TransferIn,
    TransferOut,
    TransferQuery,
)
from app.platform import http, pagination
from app.platform.fields import Compiled
from app.platform.guards import also_opened_by, current_actor, requires
from app.platform.http import fails, keyed
from app.platform.idempotency import Answer, once
from app.platform.pagination import PageQuery
from app.users.errors import StrongerUser

blp = http.Blueprint("credits", __name__, url_prefix="/credits", description="The ledger")

_balance = Compiled(BalanceOut())
_entry = Compiled(EntryOut())
_transfer = Compiled(TransferOut())


@blp.route("/balance")
@blp.response(200, BalanceOut())
def get_balance() -> Response:
    """What the signed-in user's account holds."""
    return http.respond(_balance.one(service.balance(actor=current_actor())))


@blp.route("/entries")
@blp.arguments(PageQuery(), location="query")
@blp.response(200, EntryListOut())
def list_entries(arguments: dict[str, Any]) -> Response:
    """The lines of the signed-in user's account, the last posted first."""
    actor = current_actor()
    page = pagination.page(arguments, route="credits.entries", actor=actor)
    rows = service.list_entries(actor=actor, after=page.after, limit=page.limit, offset=page.offset)
    return http.respond(
        pagination.listing(page, rows, wire=_entry.one, key=lambda row: (row["seq"],))
    )


@blp.route("/transfers", methods=["POST"])
@blp.arguments(TransferIn())
@blp.arguments(TransferQuery(), location="query")
@blp.response(201, TransferOut())
@blp.alt_response(200, schema=TransferOut(), description="What would be made (`dry_run`)")
@fails(InsufficientCredits, RecipientNotFound, BalanceLimit, SelfTransfer)
@keyed
def create_transfer(body: dict[str, Any], query: dict[str, Any]) -> Response:
    """Send credits to another user.

    With `dry_run=true` nothing is changed, and no key is needed, claimed or stored.
    """
    actor = current_actor()
    if query["dry_run"]:
        return http.respond(_transfer.one(service.dry_run(actor=actor, **body)))
    return http.reply(
        once(
            actor=actor,
            request=http.keyed_request(),
            work=lambda session: service.transfer(session, actor=actor, **body),
            respond=_created,
        )
    )


@blp.route("/transfers/<uuid:transfer_id>")
@also_opened_by("credits:read")
@blp.response(200, TransferOut())
def get_transfer(transfer_id: UUID) -> Response:
    """A transfer that the signed-in user sent or received; any with `credits:read`."""
    found = service.get_transfer(actor=current_actor(), transfer_id=transfer_id)
    return http.respond(_transfer.one(found))


@blp.route("/grants", methods=["POST"])
@requires("credits:grant")
@blp.arguments(GrantIn())
@blp.response(201, TransferOut())
@fails(RecipientNotFound, BalanceLimit, SelfGrant, StrongerUser)
@keyed
def create_grant(body: dict[str, Any]) -> Response:
    """Make new credits for another user."""
    actor = current_actor()
    granted = once(
        actor=actor,
        request=http.keyed_request(),
        work=lambda session: service.grant(session, actor=actor, **body),
        respond=_created,
    )
    return http.reply(granted)


@blp.route("/charges", methods=["POST"])
@requires("credits:charge")
@blp.arguments(ChargeIn())
@blp.response(201, TransferOut())
@fails(InsufficientCredits, PayerNotFound, StrongerUser)
@keyed
def create_charge(body: dict[str, Any]) -> Response:
    """Take credits from a user: how an app's server is paid for usage."""
    actor = current_actor()
    charged = once(
        actor=actor,
        request=http.keyed_request(),
        work=lambda session: service.charge(session, actor=actor, **body),
        respond=_created,
    )
    return http.reply(charged)


def _created(made: Transfer) -> Answer:
    return http.answer(
        _transfer.one(made), status=201, location=f"/api/v1/credits/transfers/{made.id}"
    )
