"""What a percent takes off is exact, rounded half up, and never more than there is."""

from decimal import ROUND_HALF_UP, Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.orders.pricing import WHOLE, discount, hundredths, percent_text, reduced

# Totals are up to 2^53-1; a little more can be handed over before that is refused.
AMOUNTS = st.integers(0, 10**18)
HUNDREDTHS = st.integers(0, WHOLE)


@pytest.mark.parametrize(
    ("amount", "percent", "left"),
    [
        (1000, "10", 900),
        (1000, "100", 0),
        (1000, "100.00", 0),
        (999, "33.33", 666),
        (0, "50", 0),
        # A half is rounded up, for the buyer.
        (1, "50", 0),
        (3, "50", 1),
        (1, "49.99", 1),
        (10**12, "0.01", 10**12 - 10**8),
    ],
)
def test_a_price_less_a_percent(amount: int, percent: str, left: int) -> None:
    assert reduced(amount, hundredths=hundredths(percent)) == left


def test_nothing_off_is_the_price() -> None:
    assert reduced(1000, hundredths=0) == 1000


@pytest.mark.parametrize(("amount", "percent"), [(1000, -1), (1000, 101), (-1, 10)])
def test_a_percent_below_0_or_above_100_and_a_negative_price_are_refused(
    amount: int, percent: int
) -> None:
    with pytest.raises(ValueError, match="no price"):
        reduced(amount, hundredths=percent * 100)


@given(amount=AMOUNTS, off=HUNDREDTHS)
def test_a_discount_is_what_decimal_arithmetic_makes_it(amount: int, off: int) -> None:
    exact = Decimal(amount) * off / WHOLE
    assert discount(amount, hundredths=off) == exact.quantize(Decimal(1), ROUND_HALF_UP)


@given(amount=AMOUNTS, off=HUNDREDTHS)
def test_what_is_taken_off_and_what_is_left_are_the_price(amount: int, off: int) -> None:
    left = reduced(amount, hundredths=off)
    assert 0 <= left <= amount
    assert left + discount(amount, hundredths=off) == amount


@given(amount=AMOUNTS, off=HUNDREDTHS, more=HUNDREDTHS)
def test_a_higher_percent_never_takes_less_off(amount: int, off: int, more: int) -> None:
    low, high = sorted((off, more))
    assert discount(amount, hundredths=low) <= discount(amount, hundredths=high)


@given(off=st.integers(1, WHOLE))
def test_a_percent_comes_back_as_it_was_written(off: int) -> None:
    assert hundredths(percent_text(off)) == off
    # Zeros at the end may be left out.
    assert hundredths(percent_text(off).rstrip("0").rstrip(".")) == off


@pytest.mark.parametrize(
    "text",
    [
        "", "0", "0.0", "0.00", "0.001", "-1", "101", "100.01", "100.001", "1.234", ".5", "1.",
        "01", "1,5", "+1", " 1", "1\n", "1e1", "NaN", "Infinity", "٣", "1_0",
    ],
)  # fmt: skip
def test_what_is_no_percent_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="not a percent"):
        hundredths(text)
