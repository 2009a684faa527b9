"""What clients ask for: mostly transfers, some of everything else that moves credits, by dice."""

import json
import random
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any
from uuid import UUID, uuid4

from app.credits.values import REVENUE_ID
from tests.people import TestUser

CREDITS, ORDERS = "/api/v1/credits", "/api/v1/orders"
# How often each is asked for. A hold is then captured or released, an order paid or cancelled, and
# every third payment refunded, as a whole or in part.
SHARES = {"transfer": 80, "batch": 2, "charge": 7, "reversal": 4, "hold": 3, "order": 4}
LARGEST, MOST, BATCH = 400, 9, 5
# Work is done, or refused for want of credits. Nobody else meddles with what a client has made.
MADE, FINAL = frozenset({200, 201}), frozenset({200, 201, 402})


@dataclass(frozen=True, kw_only=True)
class Write:
    """What a client asks for, under one key for ever."""

    kind: str
    path: str
    token: str
    body: bytes
    from_id: UUID
    to_id: UUID
    amount: int
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

    @property
    def moved(self) -> dict[str, tuple[str, str, str, int]]:
        """Return kind, sides and amount of each transfer that was made, by its id."""
        write = self.write
        if write.kind != "batch":
            return {str(self.id): (write.kind, str(write.from_id), str(write.to_id), write.amount)}
        asked, made = json.loads(write.body)["transfers"], json.loads(self.answer)["items"]
        return {
            one["id"]: ("transfer", str(write.from_id), row["to_user_id"], row["amount"])
            for row, one in zip(asked, made, strict=True)
        }


class Drawer:
    """Draws writes by dice, as far as they need it from what was acknowledged before."""

    def __init__(self, users: Sequence[TestUser], staff: str, sku: str, seed: str) -> None:
        self.dice = random.Random(seed)
        self._users, self._staff, self._sku = users, staff, sku
        self._open: list[Acknowledged] = []
        self._reversible: list[Acknowledged] = []

    def draw(self) -> Write:
        """Return what to ask for next."""
        if self._open:
            return self._go_on(self._open.pop())
        (kind,) = self.dice.choices(list(SHARES), list(SHARES.values()))
        user, other = self.dice.sample(self._users, 2)
        amount = self.dice.randint(1, LARGEST)
        if kind == "reversal" and self._reversible:
            return self._reverse(self._reversible.pop())
        if kind == "batch":
            return self._send_to_many(user, amount)
        if kind == "charge":
            asked = {"user_id": str(user.id), "amount": amount, "memo": "Usage"}
            path = f"{CREDITS}/charges"
            return _write(kind, path, self._staff, asked, user.id, REVENUE_ID, amount)
        if kind == "hold":
            path = f"{CREDITS}/holds"
            return _write(kind, path, user.token, {"amount": amount}, user.id, user.id, amount)
        if kind == "order":
            asked = {"items": [{"sku": self._sku, "quantity": self.dice.randint(1, MOST)}]}
            return _write(kind, ORDERS, user.token, asked, user.id, REVENUE_ID, 0)
        asked = {"to_user_id": str(other.id), "amount": amount}
        path = f"{CREDITS}/transfers"
        return _write("transfer", path, user.token, asked, user.id, other.id, amount)

    def learn(self, write: Write, status: int, answer: bytes) -> Acknowledged:
        """Return what was acknowledged, and remember what can follow from it."""
        one = Acknowledged(write=write, status=status, answer=answer, at=time.monotonic())
        refunded = write.kind == "pay" and self.dice.randrange(3) == 0
        if one.made and (write.kind in ("hold", "order") or refunded):
            self._open.append(one)
        elif one.made and write.kind in ("transfer", "charge"):
            self._reversible = [one]
        return one

    def _go_on(self, one: Acknowledged) -> Write:
        """Return what comes after a hold, an order or a payment."""
        own = one.write
        if own.kind == "pay":
            asked = {"reason": "Sorry"} | self.dice.choice(({}, {"amount": 1}))
            return _end(f"{ORDERS}/{one.id}", "refund", self._staff, asked, own, 0)
        if own.kind == "order":
            what = self.dice.choice(("pay", "pay", "pay", "cancel"))
            return _end(f"{ORDERS}/{one.id}", what, own.token, {}, own, 0)
        what = self.dice.choice(("capture", "release"))
        amount = self.dice.randint(1, own.amount) if what == "capture" else 0
        asked = {"amount": amount} if what == "capture" else {}
        return _end(f"{CREDITS}/holds/{one.id}", what, own.token, asked, own, amount)

    def _send_to_many(self, user: TestUser, amount: int) -> Write:
        others = self.dice.sample([other for other in self._users if other is not user], BATCH)
        rows = [{"to_user_id": str(other.id), "amount": 1 + amount // BATCH} for other in others]
        path, asked = f"{CREDITS}/transfers/batch", {"transfers": rows}
        return _write("batch", path, user.token, asked, user.id, user.id, 0)

    def _reverse(self, one: Acknowledged) -> Write:
        own = one.write
        path, asked = f"{CREDITS}/transfers/{one.id}/reverse", {"reason": "A mistake"}
        return _write("reversal", path, self._staff, asked, own.to_id, own.from_id, own.amount)


def _end(path: str, what: str, token: str, asked: dict[str, Any], own: Write, amount: int) -> Write:
    return _write(what, f"{path}/{what}", token, asked, own.from_id, REVENUE_ID, amount)


def _write(
    kind: str,
    path: str,
    token: str,
    asked: dict[str, Any],
    from_id: UUID,
    to_id: UUID,
    amount: int,
) -> Write:
    return Write(
        kind=kind,
        path=path,
        token=token,
        body=json.dumps(asked).encode(),
        from_id=from_id,
        to_id=to_id,
        amount=amount,
    )
