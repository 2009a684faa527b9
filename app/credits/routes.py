"""`/api/v1/credits`: balance, entries, transfers, grants, charges and reversals."""

from typing import Any
from uuid import UUID

from flask import Response

from app.credits import queries, service
from app.credits.errors import (
    AlreadyReversed,
    BalanceLimit,
    InsufficientCredits,
    LedgerFrozen,
    NotReversible,
    PayerNotFound,
    RecipientNotFound,
    SelfGrant,
    SelfReversal,
    SelfTransfer,
)
from app.credits.ledger import Transfer
from app.credits.schemas import (
    AccountOut,
    BalanceOut,
    BatchIn,
    BatchOut,
    ChargeIn,
    EntryListOut,
    EntryOut,
    GrantIn,
    ReverseIn,
    TransferIn,
    TransferOut,
    TransferQuery,
)
from app.platform import http, pagination
from app.platform.fields import Compiled
from app.platform.guards import also_opened_by, current_actor, requires
from app.platform.http import exists, fails, keyed
from app.platform.idempotency import Answer
from app.platform.pagination import PageQuery
from app.platform.replies import reply_once
from app.users.errors import StrongerUser

blp = http.Blueprint("credits", __name__, url_prefix="/credits", description="The ledger")
staff_blp = http.Blueprint(
    "user_credits", __name__, url_prefix="/users", description="Credits of others, for staff."
)

_balance = Compiled(BalanceOut())
_entry = Compiled(EntryOut())
_transfer = Compiled(TransferOut())


@blp.route("/balance")
@blp.response(200, BalanceOut())
def get_balance() -> Response:
    """What the signed-in user's account holds."""
    return http.respond(_balance.one(queries.balance(actor=current_actor())))


@blp.route("/entries")
@blp.arguments(PageQuery(), location="query")
@blp.response(200, EntryListOut())
def list_entries(arguments: dict[str, Any]) -> Response:
    """The lines of the signed-in user's account, the last posted first."""
    actor = current_actor()
    page = pagination.page(arguments, route="credits.entries", actor=actor)
    rows = queries.list_entries(actor=actor, after=page.after, limit=page.limit, offset=page.offset)
    return http.respond(
        pagination.listing(page, rows, wire=_entry.one, key=lambda row: (row["seq"],))
    )


@blp.route("/transfers", methods=["POST"])
@blp.arguments(TransferIn())
@blp.arguments(TransferQuery(), location="query")
@blp.response(201, TransferOut())
@blp.alt_response(200, schema=TransferOut(), description="What would be made (`dry_run`)")
@fails(InsufficientCredits, RecipientNotFound, BalanceLimit, SelfTransfer, LedgerFrozen)
@keyed
def create_transfer(body: dict[str, Any], query: dict[str, Any]) -> Response:
    """Send credits to another user.

    With `dry_run=true` nothing is changed, and no key is needed, claimed or stored.
    """
    actor = current_actor()
    if query["dry_run"]:
        return http.respond(_transfer.one(service.dry_run(actor=actor, **body)))
    return reply_once(lambda session: service.transfer(session, actor=actor, **body), _created)


@blp.route("/transfers/batch", methods=["POST"])
@blp.arguments(BatchIn())
@blp.response(201, BatchOut())
@fails(InsufficientCredits, RecipientNotFound, BalanceLimit, SelfTransfer, LedgerFrozen)
@keyed
def create_transfers(body: dict[str, Any]) -> Response:
    """Send credits to several users, to all of them or to none."""
    actor = current_actor()
    return reply_once(
        lambda session: service.transfer_all(session, actor=actor, **body),
        lambda made: http.answer({"items": [_transfer.one(each) for each in made]}, status=201),
    )


@blp.route("/transfers/<uuid:transfer_id>")
@also_opened_by("credits:read")
@blp.response(200, TransferOut())
def get_transfer(transfer_id: UUID) -> Response:
    """A transfer that the signed-in user sent or received; any with `credits:read`."""
    found = queries.get_transfer(actor=current_actor(), transfer_id=transfer_id)
    return http.respond(_transfer.one(found))


@blp.route("/grants", methods=["POST"])
@requires("credits:grant")
@blp.arguments(GrantIn())
@blp.response(201, TransferOut())
@fails(RecipientNotFound, BalanceLimit, SelfGrant, StrongerUser, LedgerFrozen)
@keyed
def create_grant(body: dict[str, Any]) -> Response:
    """Make new credits for another user."""
    actor = current_actor()
    return reply_once(lambda session: service.grant(session, actor=actor, **body), _created)


@blp.route("/charges", methods=["POST"])
@requires("credits:charge")
@blp.arguments(ChargeIn())
@blp.response(201, TransferOut())
@fails(InsufficientCredits, PayerNotFound, StrongerUser, LedgerFrozen)
@keyed
def create_charge(body: dict[str, Any]) -> Response:
    """Take credits from a user: how an app's server is paid for usage."""
    actor = current_actor()
    return reply_once(lambda session: service.charge(session, actor=actor, **body), _created)


@blp.route("/transfers/<uuid:transfer_id>/reverse", methods=["POST"])
@requires("credits:reverse")
@exists(queries.look_for_transfer)
@blp.arguments(ReverseIn())
@blp.response(201, TransferOut())
@fails(
    InsufficientCredits,
    BalanceLimit,
    NotReversible,
    AlreadyReversed,
    SelfReversal,
    StrongerUser,
    LedgerFrozen,
)
@keyed
def reverse_transfer(body: dict[str, Any], transfer_id: UUID) -> Response:
    """Take a grant, a transfer or a charge back, whole and once."""
    actor = current_actor()
    return reply_once(
        lambda session: service.reverse(session, actor=actor, transfer_id=transfer_id, **body),
        _created,
    )


@staff_blp.route("/<uuid:user_id>/credits")
@requires("credits:read")
@staff_blp.response(200, AccountOut())
def get_user_credits(user_id: UUID) -> Response:
    """What a user's account holds, and its latest entries."""
    account = queries.account_of(user_id=user_id)
    entries = [_entry.one(entry) for entry in account["entries"]]
    return http.respond({**_balance.one(account), "entries": entries})


def _created(made: Transfer) -> Answer:
    return http.answer(
        _transfer.one(made), status=201, location=f"/api/v1/credits/transfers/{made.id}"
    )
