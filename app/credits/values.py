"""The ledger's fixed values: house accounts, kinds of transfers, limits."""

from enum import StrEnum
from uuid import UUID

# The migration makes these accounts under these ids.
ISSUANCE_ID = UUID("00000000-0000-7000-8000-000000000001")
REVENUE_ID = UUID("00000000-0000-7000-8000-000000000002")

MAX_MEMO = 500


class TransferKind(StrEnum):
    """Why credits moved."""

    GRANT = "grant"
    TRANSFER = "transfer"
    CHARGE = "charge"
    FORFEIT = "forfeit"
