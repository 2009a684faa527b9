"""Checks the books: what every posting kept to must still be true of all of them together."""

from collections.abc import Callable, Generator, Iterator
from contextlib import closing
from dataclasses import dataclass
from typing import Final

from sqlalchemy import text

from app.credits.checks import CHECKS
from app.platform.db import snapshot

# Rows fetched at a time: memory stays the same however many differences there are.
BATCH: Final = 1000
# The first two are limits of a request: these read everything, and whoever reads what they find may
# pause. The third: they are read to their end, where PostgreSQL would plan for the first tenth of
# the rows and look them up one by one. The last is what a sort may take of the server's memory
# before it writes files.
_ALLOWANCES: Final = (
    "SET LOCAL statement_timeout = 0",
    "SET LOCAL idle_in_transaction_session_timeout = 0",
    "SET LOCAL cursor_tuple_fraction = 1",
    "SET LOCAL work_mem = '64MB'",
)


@dataclass(frozen=True, slots=True)
class Difference:
    """One thing that is wrong, in a sentence, and what of it stays while others go on posting."""

    sentence: str
    lasting: str


def verify(*, tell: Callable[[int, int], None] | None = None) -> Iterator[str]:
    """Give what is wrong with the books, one sentence at a time; nothing when they are right.

    As `differences`.

    Raises Unavailable.
    """
    with closing(differences(tell=tell)) as found:
        for difference in found:
            yield difference.sentence


def differences(*, tell: Callable[[int, int], None] | None = None) -> Generator[Difference]:
    """Give what is wrong with the books, one thing at a time; nothing when they are right.

    All checks see the same moment and disturb nobody. Time grows with the books, memory doesn't.
    Must be read to its end or closed: the snapshot is open until then. `tell` is called after each
    check, with how many are done and how many there are.

    Raises Unavailable.
    """
    with snapshot() as session:
        for allowance in _ALLOWANCES:
            session.execute(text(allowance))
        for number, (query, sentences) in enumerate(CHECKS, start=1):
            found = session.execute(text(query), execution_options={"yield_per": BATCH})
            for row in found.mappings():
                for column, words in sentences.items():
                    if row[column]:
                        sentence, lasting = (words, words) if isinstance(words, str) else words
                        yield Difference(sentence.format(**row), lasting.format(**row))
            if tell is not None:
                tell(number, len(CHECKS))
