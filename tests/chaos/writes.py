"""What clients ask for: mostly transfers, some charges, reversals and holds, picked by dice."""

import json
import random
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any
from uuid import UUID, uuid4

from app.credits.values import REVENUE_ID
from tests.people import TestUser

CREDITS = "/api/v1/credits"
# How often each is asked for; a hold is followed by its capture or its release.
SHARES = {"transfer": 85, "charge": 7, "reversal": 4, "hold": 4}
LARGEST = 400
# Work is done, or refused for want of credits. Nobody else meddles with what a client has made.
MADE, FINAL = frozenset({200, 201}), frozenset({200, 201, 402})


@dataclass(frozen=True, kw_only=True)
class Write:
    """What a client asks for, under one key for ever; `hold_id` is the hold to end."""

    kind: str
    path: str
    token: str
    body: bytes
    from_id: UUID
    to_id: UUID
    amount: int
    hold_id: UUID | None = None
    key: str = field(default_factory=lambda: str(uuid4()))


@dataclass(frozen=True, kw_only=True)
class Acknowledged:
    """A write and its final answer."""

    write: Write
    status: int
    answer: bytes
    at: float

    @property
    def made(self) -> bool:
        """Tell whether it was done, and not refused."""
        return self.status in MADE

    @property
    def id(self) -> UUID:
        """Return the id of what was made."""
        return UUID(json.loads(self.answer)["id"])


class Drawer:
    """Draws writes by dice, as far as they need it from what was acknowledged before."""

    def __init__(self, users: Sequence[TestUser], staff: str, seed: str) -> None:
        self.dice = random.Random(seed)
        self._users, self._staff = users, staff
        self._open: list[Acknowledged] = []
        self._reversible: list[Acknowledged] = []

    def draw(self) -> Write:
        """Return what to ask for next."""
        if self._open:
            return self._end(self._open.pop())
        (kind,) = self.dice.choices(list(SHARES), list(SHARES.values()))
        user, other = self.dice.sample(self._users, 2)
        amount = self.dice.randint(1, LARGEST)
        if kind == "reversal" and self._reversible:
            return self._reverse(self._reversible.pop())
        if kind == "charge":
            asked = {"user_id": str(user.id), "amount": amount, "memo": "Usage"}
            return _write(kind, "/charges", self._staff, asked, user.id, REVENUE_ID, amount)
        if kind == "hold":
            return _write(kind, "/holds", user.token, {"amount": amount}, user.id, user.id, amount)
        asked = {"to_user_id": str(other.id), "amount": amount}
        return _write("transfer", "/transfers", user.token, asked, user.id, other.id, amount)

    def learn(self, write: Write, status: int, answer: bytes) -> Acknowledged:
        """Return what was acknowledged, and remember what can follow from it."""
        one = Acknowledged(write=write, status=status, answer=answer, at=time.monotonic())
        if one.made and write.kind == "hold":
            self._open.append(one)
        elif one.made and write.kind in ("transfer", "charge"):
            self._reversible = [one]
        return one

    def _end(self, hold: Acknowledged) -> Write:
        """Capture some of a hold, or let it go."""
        own = hold.write
        what = self.dice.choice(("capture", "release"))
        amount = self.dice.randint(1, own.amount) if what == "capture" else 0
        asked = {"amount": amount} if what == "capture" else {}
        path = f"/holds/{hold.id}/{what}"
        return _write(what, path, own.token, asked, own.from_id, REVENUE_ID, amount, hold.id)

    def _reverse(self, one: Acknowledged) -> Write:
        own = one.write
        path, asked = f"/transfers/{one.id}/reverse", {"reason": "A mistake"}
        return _write("reversal", path, self._staff, asked, own.to_id, own.from_id, own.amount)


def _write(
    kind: str,
    path: str,
    token: str,
    asked: dict[str, Any],
    from_id: UUID,
    to_id: UUID,
    amount: int,
    hold_id: UUID | None = None,
) -> Write:
    return Write(
        kind=kind,
        path=CREDITS + path,
        token=token,
        body=json.dumps(asked).encode(),
        from_id=from_id,
        to_id=to_id,
        amount=amount,
        hold_id=hold_id,
    )
