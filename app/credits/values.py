"""The ledger's fixed values: house accounts, kinds of transfers, limits."""

from datetime import timedelta
from enum import StrEnum
from uuid import UUID

# The migration makes these accounts under these ids.
ISSUANCE_ID = UUID("00000000-0000-7000-8000-000000000001")
REVENUE_ID = UUID("00000000-0000-7000-8000-000000000002")

MAX_MEMO = 500
MAX_BATCH = 500
HOLD_LIFETIME = timedelta(days=7)
LONGEST_HOLD = timedelta(days=30)


class TransferKind(StrEnum):
    """Why credits moved."""

    GRANT = "grant"
    TRANSFER = "transfer"
    CHARGE = "charge"
    PAYMENT = "payment"
    REFUND = "refund"
    REVERSAL = "reversal"
    FORFEIT = "forfeit"


# What can be taken back as a whole; a payment goes back through its order's refund.
REVERSIBLE = frozenset({TransferKind.GRANT, TransferKind.TRANSFER, TransferKind.CHARGE})


class HoldStatus(StrEnum):
    """What has become of credits that were set aside."""

    HELD = "held"
    CAPTURED = "captured"
    RELEASED = "released"
    EXPIRED = "expired"
