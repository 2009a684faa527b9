"""Finds names by any part of them, in any case, without reading all of them.

Beside a name stands an array of its *grams*, all substrings of 1 to 3 characters of the folded
name, and a GIN index over the arrays narrows a search. It needs no extension of the database.
"""

from typing import Any

from sqlalchemy import Column, ColumnElement, and_

GRAM = 3


def name_grams(name: str) -> list[str]:
    """Return all substrings of 1 to 3 characters of the folded name: what a search can look up."""
    folded = name.casefold()
    return sorted(
        {
            folded[start : start + length]
            for length in range(1, GRAM + 1)
            for start in range(len(folded) - length + 1)
        }
    )


def searched_grams(part: str) -> list[str]:
    """Return the grams that every name has which contains the part: its longest ones suffice."""
    folded = part.casefold()
    length = min(GRAM, len(folded))
    return sorted({folded[start : start + length] for start in range(len(folded) - length + 1)})


def contains(part: str, *, name: Column[Any], grams: Column[Any]) -> ColumnElement[bool]:
    """Return the condition that a name contains the part, in any case and literally."""
    literal = part.replace("\\", "\\\\").replace("%", "\\%").replace("_", "\\_")
    # The grams find candidates by their index; ILIKE, which has none, decides among them.
    return and_(
        grams.contains(searched_grams(part)),
        name.ilike(f"%{literal}%", escape="\\"),
    )
