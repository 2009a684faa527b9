"""Customers who do whatever moves credits, by dice, each time in a transaction of its own.

Holds are short, and so is the patience of whoever leaves with credits: jobs and deletions are done
among all that.
"""

import random
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any
from uuid import UUID, uuid4

from sqlalchemy.orm import Session

from app.credits import holds, ledger, service
from app.credits.errors import (
    AlreadyReversed,
    HoldEnded,
    InsufficientCredits,
    PayerNotFound,
    RecipientNotFound,
)
from app.orders import cancellation
from app.orders import service as orders
from app.orders.errors import OrderState, RefundExceedsPayment
from app.platform.actor import Actor
from app.platform.db import transaction
from app.platform.errors import InvalidState, Unauthenticated
from app.platform.idempotency import Outdated
from app.support import deletion
from app.users import service as users
from app.users.values import PERMISSIONS
from tests.shop import make_discount, make_product

STAFF = Actor(kind="system", permissions=PERMISSIONS)
LARGEST = 80


class NothingYet(Exception):
    """Nobody has made anything of the kind so far."""


# The last five are what becomes of those who leave: nobody, and whoever lets them go begins again.
REFUSALS = (
    NothingYet, InsufficientCredits, AlreadyReversed, HoldEnded, OrderState, RefundExceedsPayment,
    PayerNotFound, RecipientNotFound, Unauthenticated, InvalidState, Outdated,
)  # fmt: skip


@dataclass(kw_only=True)
class Bank:
    """Users with credits, and what they have made so far, which anybody may go on with."""

    users: list[UUID]
    credits: int
    sku: str
    code: str
    transfers: list[UUID] = field(default_factory=list)
    holds: list[tuple[UUID, UUID]] = field(default_factory=list)
    orders: list[tuple[UUID, UUID]] = field(default_factory=list)


def make_bank(number: int, *, credits: int) -> Bank:
    """Return a bank of so many users, each with so many credits, who can't sign in."""
    made = [_join(credits) for _ in range(number)]
    sku, code = make_product(price=7).sku, make_discount().code
    return Bank(users=made, credits=credits, sku=sku, code=code)


class Customer:
    """One who does this and that, and counts what was done and what was refused."""

    def __init__(self, bank: Bank, seed: int) -> None:
        self._bank, self._dice = bank, random.Random(seed)
        self.done: Counter[str] = Counter()
        self.refused: Counter[str] = Counter()

    def run(self, seconds: float) -> None:
        """Do things for so long."""
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            self.act(self._dice.choice(ACTIONS))

    def act(self, action: "Callable[..., Any]") -> None:
        """Do one thing; a refusal leaves nothing behind, and anything else is raised."""
        try:
            if action in IN_STEPS:
                made = action(self)
            else:
                with transaction() as session:
                    made = action(self, session)
        except REFUSALS as refusal:
            self.refused[type(refusal).__name__] += 1
            return
        # Others may find it only once it is committed.
        if made is not None:
            pile, what = made
            pile.append(what)
        self.done[action.__name__] += 1

    def send(self, session: Session) -> Any:
        """Send credits to another user."""
        sender, recipient = self._dice.sample(self._bank.users, 2)
        sent = service.transfer(
            session, actor=_user(sender), to_user_id=recipient, amount=self._amount(), memo=None
        )
        return self._bank.transfers, sent.id

    def send_to_many(self, session: Session) -> Any:
        """Send credits to some users at once, who may be the same ones twice."""
        sender, *others = self._dice.sample(self._bank.users, 5)
        rows = [
            {"to_user_id": other, "amount": self._dice.randint(1, 20), "memo": None}
            for other in [*others, others[0]]
        ]
        service.transfer_all(session, actor=_user(sender), transfers=rows)

    def charge(self, session: Session) -> Any:
        """Take credits for the house's revenue."""
        made = service.charge(
            session, actor=STAFF, user_id=self._user(), amount=self._amount(), memo="Usage"
        )
        return self._bank.transfers, made.id

    def grant(self, session: Session) -> Any:
        """Make new credits."""
        made = service.grant(
            session, actor=STAFF, user_id=self._user(), amount=self._amount(), memo="More"
        )
        return self._bank.transfers, made.id

    def reverse(self, session: Session) -> Any:
        """Take back one of the last transfers, unless somebody has."""
        chosen = self._one_of(self._bank.transfers)
        service.reverse(session, actor=STAFF, transfer_id=chosen, reason="A mistake")

    def hold(self, session: Session) -> Any:
        """Set credits aside."""
        user_id = self._user()
        held = holds.place(
            session, actor=_user(user_id), amount=self._amount(), user_id=None,
            expires_in=self._dice.choice((timedelta(seconds=0.1), timedelta(days=1))), memo=None,
        )  # fmt: skip
        return self._bank.holds, (user_id, held.id)

    def capture(self, session: Session) -> Any:
        """Take some of what is set aside, unless somebody has ended the hold."""
        user_id, hold_id = self._one_of(self._bank.holds)
        holds.capture(session, actor=_user(user_id), hold_id=hold_id, amount=1)

    def release(self, session: Session) -> Any:
        """Let go what is set aside, unless somebody has ended the hold."""
        user_id, hold_id = self._one_of(self._bank.holds)
        holds.release(session, actor=_user(user_id), hold_id=hold_id)

    def place(self, session: Session) -> Any:
        """Place an order."""
        user_id = self._user()
        items = [{"sku": self._bank.sku, "quantity": self._dice.randint(1, 9)}]
        placed = orders.place(
            session, actor=_user(user_id), items=items, expected_total=None,
            discount_code=self._dice.choice((self._bank.code, None)),
        )  # fmt: skip
        return self._bank.orders, (user_id, placed["id"])

    def pay(self, session: Session) -> Any:
        """Pay an order, unless somebody has ended it."""
        user_id, order_id = self._one_of(self._bank.orders)
        orders.pay(session, actor=_user(user_id), order_id=order_id)

    def cancel(self, session: Session) -> Any:
        """Cancel an order, unless somebody has ended it."""
        user_id, order_id = self._one_of(self._bank.orders)
        cancellation.cancel(session, actor=_user(user_id), order_id=order_id)

    def refund(self, session: Session) -> Any:
        """Give a part of a payment back, or all that is left."""
        _, order_id = self._one_of(self._bank.orders)
        amount = self._dice.choice((None, 3, 5))
        orders.refund(session, actor=STAFF, order_id=order_id, amount=amount, reason="Sorry")

    def fold(self, session: Session) -> Any:
        """Do the job that adds the house's deltas to its balances."""
        ledger.fold(session, most=100)

    def expire(self) -> None:
        """Do the jobs that end what is past its time."""
        holds.expire_due()
        cancellation.expire_due()

    def leave(self) -> None:
        """Have somebody leave with all that they own, and somebody else come instead."""
        user_id = self._user()
        with transaction() as session:
            deletion.delete_for_staff(
                session, actor=STAFF, user_id=user_id, versions=None, forfeit=True
            )
        there = self._bank.users
        there[there.index(user_id)] = _join(self._bank.credits)

    def _user(self) -> UUID:
        return self._dice.choice(self._bank.users)

    def _one_of(self, made: list[Any]) -> Any:
        """Return one of those made last, which others are at as well."""
        if not made:
            raise NothingYet
        return self._dice.choice(made[-30:])

    def _amount(self) -> int:
        return self._dice.randint(1, LARGEST)


# These begin their transactions themselves.
IN_STEPS = (Customer.expire, Customer.leave)
ACTIONS: tuple[Callable[..., Any], ...] = (
    *[Customer.send] * 4, Customer.send_to_many, *[Customer.charge] * 2, Customer.grant,
    Customer.reverse, *[Customer.hold] * 2, Customer.capture, Customer.release,
    *[Customer.place] * 2, *[Customer.pay] * 2, Customer.cancel, Customer.refund, Customer.fold,
    *IN_STEPS,
)  # fmt: skip


def _join(credits: int) -> UUID:
    with transaction() as session:
        user = users.create_user(
            session,
            email=f"{uuid4().hex}@example.org",
            name="Customer",
            password_hash="x",
            roles=(),
            actor=STAFF,
        )
        service.grant(session, actor=STAFF, user_id=user.id, amount=credits, memo="Welcome")
    return user.id


def _user(user_id: UUID) -> Actor:
    return Actor(kind="user", user_id=user_id)
