"""How staff's changes of the catalogue are made: a row is held, written and recorded.

Products and discounts are alike in that; what is theirs alone stands in a module for each.
"""

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from functools import cache
from typing import Any
from uuid import UUID

from sqlalchemy import Column, Select, Table, bindparam, insert, select, update
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import Session

from app.audit import service as audit
from app.audit.actions import Action
from app.orders.models import CatalogueRow
from app.orders.pricing import percent_text
from app.platform import ids
from app.platform.actor import Actor
from app.platform.db import reading
from app.platform.errors import AppError, NotFound, PreconditionFailed

# What staff writes as it likes stays out of the audit trail, which is never erased.
_FREE_TEXT = "name"


@dataclass(frozen=True, slots=True, kw_only=True)
class Kind:
    """One kind of thing in the catalogue: its table, what is shown of it, what happens to it.

    `derive` gives the columns that follow from others and aren't shown. `unique` names the
    constraint that tells two of the kind apart, `taken` what it means to break it.
    """

    name: str
    table: Table
    shown: Sequence[Column[Any]]
    derive: Callable[[Mapping[str, Any]], dict[str, Any]]
    created: Action
    changed: Action
    unique: str
    taken: type[AppError]


def get(kind: Kind, thing_id: UUID) -> CatalogueRow:
    """Return one of a kind, as shown.

    Raises NotFound or Unavailable.
    """
    with reading() as connection:
        found = connection.execute(_one(kind), {"thing_id": thing_id}).one_or_none()
    if found is None:
        raise NotFound
    return found


def create(
    session: Session, kind: Kind, *, actor: Actor, values: Mapping[str, Any]
) -> CatalogueRow:
    """Add one of a kind and its audit event, in the caller's transaction; return it as shown.

    Raises what the kind's key being taken means.
    """
    stored = {"id": ids.new(), "version": 1, **values, **kind.derive(values)}
    with _refusing(kind):
        made = session.execute(insert(kind.table).values(stored).returning(*kind.shown)).one()
    details = _recorded(made, values)
    _record(session, kind.created, kind=kind, actor=actor, thing_id=made.id, details=details)
    return made


def hold(
    session: Session, kind: Kind, thing_id: UUID, *, versions: Collection[int] | None
) -> CatalogueRow:
    """Lock one of a kind until the caller's transaction ends, and return it as shown.

    `versions` are those that the caller knows of; None: any. They are compared under the lock, or
    two of the staff could both change the version that both have seen.

    Raises NotFound or PreconditionFailed.
    """
    # Not FOR UPDATE: that would make every order wait that only refers to it.
    locking = _one(kind).with_for_update(key_share=True)
    held = session.execute(locking, {"thing_id": thing_id}).one_or_none()
    if held is None:
        raise NotFound
    if versions is not None and held.version not in versions:
        raise PreconditionFailed
    return held


def change(
    session: Session, kind: Kind, held: CatalogueRow, *, actor: Actor, wanted: Mapping[str, Any]
) -> CatalogueRow:
    """Write what differs from the held row, and its audit event; return the row as shown.

    What is as wanted already isn't changed, and leaves no event.

    Raises what the kind's key being taken means.
    """
    changes = {name: value for name, value in wanted.items() if value != getattr(held, name)}
    if not changes:
        return held
    statement = update(kind.table).where(kind.table.c.id == held.id).returning(*kind.shown)
    stored = {**changes, **kind.derive(changes), "version": held.version + 1}
    with _refusing(kind):
        changed = session.execute(statement.values(stored)).one()
    details = {
        "fields": sorted(_called(name) for name in changes),
        "before": _recorded(held, changes),
        "after": _recorded(changed, changes),
    }
    _record(session, kind.changed, kind=kind, actor=actor, thing_id=held.id, details=details)
    return changed


@cache
def _one(kind: Kind) -> Select[*tuple[Any, ...]]:
    return select(*kind.shown).where(kind.table.c.id == bindparam("thing_id"))


@contextmanager
def _refusing(kind: Kind) -> Iterator[None]:
    """Turn the constraint that staff can break by a choice of its own into what it means."""
    try:
        yield
    except IntegrityError as error:
        cause: Any = error.orig  # The driver's own exception, which names the constraint.
        if cause.diag.constraint_name != kind.unique:
            raise
        raise kind.taken from error


def _record(
    session: Session,
    action: Action,
    *,
    kind: Kind,
    actor: Actor,
    thing_id: UUID,
    details: Mapping[str, Any],
) -> None:
    audit.record(
        session,
        action,
        actor=actor,
        subject_type=kind.name,
        subject_id=thing_id,
        details=details,
    )


def _recorded(row: CatalogueRow, names: Collection[str]) -> dict[str, Any]:
    """Return these columns of a row as the API spells them, but for free text."""
    return {_called(name): _spelled(row, name) for name in names if name != _FREE_TEXT}


def _called(name: str) -> str:
    return "percent" if name == "hundredths" else name


def _spelled(row: CatalogueRow, name: str) -> Any:
    value = getattr(row, name)
    if name == "hundredths":
        return percent_text(value)
    return value.isoformat().replace("+00:00", "Z") if isinstance(value, datetime) else value
