"""What the doctor finds: sentences that say what is wrong, and what to do."""

from dataclasses import dataclass
from enum import StrEnum


class Weight(StrEnum):
    """How much a finding matters."""

    # It loses data, or keeps the service from doing its work: the command exits with 1.
    PROBLEM = "PROBLEM"
    # Nothing is broken; somebody should know it.
    WARNING = "warning"


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that isn't as it should be."""

    weight: Weight
    sentence: str


def problem(sentence: str) -> Finding:
    """Return a finding that loses data, or keeps the service from doing its work."""
    return Finding(Weight.PROBLEM, sentence)


def warning(sentence: str) -> Finding:
    """Return a finding that somebody should know of."""
    return Finding(Weight.WARNING, sentence)
