"""What a percent takes off: integer arithmetic, halves rounded up.

A percent is an integer of its hundredths, so that `33.33` is exactly that. In floats 999 less
33.33 % would be rounded from 332.9666….
"""

import re

# 100.00 %.
WHOLE = 10_000
# 0.01 to 100.00 with two decimals at most: what is below or above has no spelling.
PERCENT = r"100(\.00?)?|[1-9][0-9]?(\.[0-9]{1,2})?|0\.(0[1-9]|[1-9][0-9]?)"


def hundredths(percent: str) -> int:
    """Return a percent from `0.01` to `100.00`, two decimals at most, as hundredths of a percent.

    Raises ValueError when it isn't one.
    """
    if not re.fullmatch(PERCENT, percent):
        raise ValueError(f"not a percent from 0.01 to 100.00: {percent!r}")
    whole, _, decimals = percent.partition(".")
    return int(whole) * 100 + int(decimals.ljust(2, "0"))


def percent_text(hundredths: int) -> str:
    """Return hundredths of a percent as a percent with two decimals: `33.33`."""
    return f"{hundredths // 100}.{hundredths % 100:02}"


def discount(amount: int, *, hundredths: int) -> int:
    """Return what so many hundredths of a percent of an amount are, a half rounded up.

    Never more than the amount, so that nothing costs less than nothing.

    Raises ValueError when the amount is negative, or the percent not from 0 to 100.
    """
    if amount < 0 or not 0 <= hundredths <= WHOLE:
        raise ValueError(f"no price: {amount} less {hundredths} hundredths of a percent")
    return (amount * hundredths + WHOLE // 2) // WHOLE


def reduced(amount: int, *, hundredths: int) -> int:
    """Return what is left of an amount after its discount.

    Raises ValueError when the amount is negative, or the percent not from 0 to 100.
    """
    return amount - discount(amount, hundredths=hundredths)
