"""What the catalogue refuses.

Conflict ──────── SkuTaken           another product has this SKU
          ├────── CodeTaken          another discount has this code
          └─ InvalidState
             └─── RedeemedMoreOften  the new maximum is below what was redeemed already
"""

from app.platform.errors import Conflict, InvalidState


class SkuTaken(Conflict):
    """Another product has this SKU, active or not: orders may name it."""

    code, message = "SKU_TAKEN", "A product with this SKU exists already."


class CodeTaken(Conflict):
    """Another discount has this code, active or not, maybe in other case."""

    code, message = "CODE_TAKEN", "A discount with this code exists already."


class RedeemedMoreOften(InvalidState):
    """The discount was redeemed more often already than it shall be at most.

    `details` has `redeemed`: the lowest maximum that there can be.
    """

    message = "The discount was redeemed more often already."
