"""Limits of the catalogue, and how codes compare."""

NAME_MIN, NAME_MAX = 1, 100
# SKUs and discount codes: what can be typed, printed and put into a URL as it is.
LABEL = r"[A-Za-z0-9._-]{1,64}"
LABEL_MAX = 64
PRICE_MAX = 10**12
# Larger integers lose digits in JavaScript.
REDEMPTIONS_MAX = 2**53 - 1


def code_key(code: str) -> str:
    """Return what a discount's code is compared by: its case doesn't matter."""
    return code.casefold()
