"""What must be true once all faults are over: nothing lost, nothing doubled, books in order."""

import json
import random
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from http.client import HTTPConnection
from typing import Any

from app.credits import verification
from tests import canaries
from tests.chaos.stage import Stage, direct
from tests.chaos.writes import Acknowledged

REPEATED = 200
STORED = """
    SELECT id::text, kind, from_account_id::text, to_account_id::text, amount FROM transfers
    WHERE kind <> 'grant' AND hold_id IS NULL AND order_id IS NULL
"""
HELD = """
    SELECT holds.id::text, account_id::text, holds.amount, captured, status,
           count(transfers.id), coalesce(sum(transfers.amount), 0)
    FROM holds LEFT JOIN transfers ON hold_id = holds.id GROUP BY holds.id
"""
ORDERED = """
    SELECT orders.id::text, user_id::text, status, total, refunded,
           count(transfers.id) FILTER (WHERE kind = 'payment'),
           coalesce(sum(CASE kind WHEN 'payment' THEN amount ELSE -amount END), 0)
    FROM orders LEFT JOIN transfers ON order_id = orders.id GROUP BY orders.id
"""
KEYS = "SELECT key, status, body FROM idempotency_keys"
AUDITED = """
    SELECT coalesce(details->>'reversal_id', details->>'transfer_id', subject_id::text)
    FROM audit_events
    WHERE action IN ('credits.transfer.created', 'credits.charge.created',
                     'credits.transfer.reversed')
"""
FROZEN = "SELECT frozen_reason FROM ledger_state WHERE frozen_at IS NOT NULL"
TRANSFERS = frozenset({"transfer", "batch", "charge", "reversal"})
HOLDS = frozenset({"hold", "capture", "release"})
ORDERS = frozenset({"order", "pay", "cancel", "refund"})


def differences(stage: Stage, acknowledged: Sequence[Acknowledged], seed: int) -> Iterator[str]:
    """Give a sentence for each thing that isn't as it was acknowledged."""
    yield from stored(stage.postgres.ask, acknowledged)
    repeated = min(REPEATED, len(acknowledged))
    yield from _repeats(stage, random.Random(seed).sample(acknowledged, repeated))
    with direct(stage):
        yield from verification.verify()
    for (reason,) in stage.postgres.ask(FROZEN):
        yield f"The ledger is frozen: {reason}"
    stage.server.stop()
    said = stage.postgres.place.log.read_bytes()
    # PostgreSQL counts them too, but forgets that whenever it is killed.
    if deadlocks := said.count(b"deadlock detected"):
        yield f"There were {deadlocks} deadlocks."
    canaries.hear("the log of the web server", stage.server.text().encode())
    canaries.hear("the log of PostgreSQL", said)
    yield from canaries.leaks()


def stored(
    ask: Callable[[str], Sequence[Any]], acknowledged: Sequence[Acknowledged]
) -> Iterator[str]:
    """Give a sentence for each row that isn't as it was acknowledged; `ask` answers a query."""
    made: dict[str, tuple[Any, ...]] = {}
    for one in acknowledged:
        if one.made and one.write.kind in TRANSFERS:
            if made.keys() & one.moved.keys():
                yield "Two writes were acknowledged with one id."
            made |= one.moved
    yield from _transfers(ask(STORED), made)
    yield from _holds(ask(HELD), acknowledged)
    yield from _orders(ask(ORDERED), acknowledged)
    yield from _keys(ask(KEYS), acknowledged)
    yield from _audit(ask(AUDITED), set(made))


def _transfers(rows: Sequence[Any], made: dict[str, tuple[Any, ...]]) -> Iterator[str]:
    """Every transfer that was acknowledged is there as it was asked for, and no other one."""
    stored = {row[0]: tuple(row[1:]) for row in rows}
    for number, asked in made.items():
        kind, *_, amount = asked
        if number not in stored:
            yield f"Lost: {kind} {number} of {amount}."
        elif stored[number] != asked:
            yield f"Different: {kind} {number} is {stored[number]} instead of {asked}."
    for number in stored.keys() - made.keys():
        yield f"Doubled: {stored[number][0]} {number} was never acknowledged."


def _holds(rows: Sequence[Any], acknowledged: Sequence[Acknowledged]) -> Iterator[str]:
    """Every hold has become what was last acknowledged, with the one charge of a capture."""
    stored = {row[0]: tuple(row[1:]) for row in rows}
    expected: dict[str, tuple[Any, ...]] = {}
    for one in acknowledged:
        write, taken = one.write, one.write.amount
        if not one.made or write.kind not in HOLDS:
            continue
        held = (str(write.from_id), json.loads(one.answer)["amount"])
        expected[str(one.id)] = {
            "hold": (*held, 0, "held", 0, 0),
            "capture": (*held, taken, "captured", 1, taken),
            "release": (*held, 0, "released", 0, 0),
        }[write.kind]
    for number in stored.keys() | expected.keys():
        if stored.get(number) != expected.get(number):
            yield f"Hold {number} is {stored.get(number)} instead of {expected.get(number)}."


def _orders(rows: Sequence[Any], acknowledged: Sequence[Acknowledged]) -> Iterator[str]:
    """Every order has become what was last acknowledged, with one payment, less its refunds."""
    stored = {row[0]: tuple(row[1:]) for row in rows}
    expected: dict[str, tuple[Any, ...]] = {}
    for one in acknowledged:
        if one.made and one.write.kind in ORDERS:
            said = json.loads(one.answer)
            paid = said["status"] in ("paid", "partially_refunded", "refunded")
            left = said["total"] - said["refunded"] if paid else 0
            known = [said[name] for name in ("user_id", "status", "total", "refunded")]
            expected[said["id"]] = (*known, int(paid), left)
    for number in stored.keys() | expected.keys():
        if stored.get(number) != expected.get(number):
            yield f"Order {number} is {stored.get(number)} instead of {expected.get(number)}."


def _keys(rows: Sequence[Any], acknowledged: Sequence[Acknowledged]) -> Iterator[str]:
    """Every key has the one answer that was given."""
    stored = {key: (status, bytes(body)) for key, status, body in rows}
    for one in acknowledged:
        if stored.pop(one.write.key, None) != (one.status, one.answer):
            yield f"Key {one.write.key} doesn't hold the answer that was given."
    for key in stored:
        yield f"Key {key} holds an answer that nobody was given."


def _audit(rows: Sequence[Any], made: set[str]) -> Iterator[str]:
    """Every transfer has one audit event, and no event is of nothing."""
    audited = Counter(number for (number,) in rows)
    if audited != Counter(made):
        yield f"{len(made)} transfers were acknowledged, and {audited.total()} are audited."


def _repeats(stage: Stage, chosen: Sequence[Acknowledged]) -> Iterator[str]:
    """A repeat is answered as the first time, byte for byte."""
    connection = HTTPConnection("127.0.0.1", stage.server.port, timeout=30)
    for one in chosen:
        headers = {
            "Authorization": f"Bearer {one.write.token}",
            "Content-Type": "application/json",
            "Idempotency-Key": one.write.key,
        }
        connection.request("POST", one.write.path, one.write.body, headers)
        response = connection.getresponse()
        answer = response.status, response.read(), response.headers["Idempotent-Replayed"]
        if answer != (one.status, one.answer, "true"):
            yield f"A repeat of key {one.write.key} is answered otherwise: {answer}."
    connection.close()
