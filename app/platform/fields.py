"""marshmallow fields for what every feature has on the wire: text, credits, times.

`Compiled` turns a schema into a fast dump: marshmallow says what is on the wire, and orjson writes
it, which takes a fraction of `Schema.dump`. A test holds the two against each other.
"""

import unicodedata
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

from marshmallow import Schema, ValidationError, fields, validate

MAX_CREDITS = 2**53 - 1  # Larger integers lose digits in JavaScript (RFC 8259, section 6).


class Empty(Schema):
    """An object without fields; what is sent all the same is refused."""


class Text(fields.String):
    """A string of `minimum` to `maximum` characters that PostgreSQL can store.

    Control characters other than tab and line breaks are refused, so that no text can forge a
    line in a terminal or hide another one.
    """

    def __init__(self, minimum: int, maximum: int, **kwargs: Any) -> None:
        """Take the bounds, both included."""
        super().__init__(validate=validate.Length(minimum, maximum), **kwargs)

    def _deserialize(self, value: Any, attr: str | None, data: Any, **kwargs: Any) -> str:
        text: str = super()._deserialize(value, attr, data, **kwargs)
        if any(unicodedata.category(c) in ("Cc", "Cs") and c not in "\t\r\n" for c in text):
            raise ValidationError("Must not contain control characters.")
        return text


class Whole(fields.Integer):
    """An integer of `minimum` to `maximum` in requests; never a float, a string or a boolean."""

    def __init__(self, minimum: int, maximum: int, **kwargs: Any) -> None:
        """Take the bounds, both included."""
        super().__init__(strict=True, validate=validate.Range(minimum, maximum), **kwargs)

    def _deserialize(self, value: Any, attr: str | None, data: Any, **kwargs: Any) -> int:
        # A strict Integer still takes True, 5.0 and "5": each is refused here.
        if type(value) is not int:
            raise self.make_error("invalid")
        return value


class Credits(Whole):
    """Credits in requests: an integer of minor units, 1 to 2^53-1."""

    def __init__(self, **kwargs: Any) -> None:
        """Take marshmallow's field options."""
        super().__init__(1, MAX_CREDITS, **kwargs)


class Flag(fields.Boolean):
    """A yes or no in bodies: true or false, and none of their many spellings."""

    def _deserialize(self, value: Any, attr: str | None, data: Any, **kwargs: Any) -> bool:
        if not isinstance(value, bool):
            raise self.make_error("invalid", input=value)
        return value


class Time(fields.AwareDateTime):
    """A time: RFC 3339 with an offset in requests, UTC with `Z` in answers."""

    def __init__(self, **kwargs: Any) -> None:
        """Take marshmallow's field options."""
        super().__init__(format="iso", **kwargs)

    def _deserialize(self, value: Any, attr: str | None, data: Any, **kwargs: Any) -> datetime:
        time: datetime = super()._deserialize(value, attr, data, **kwargs)
        try:
            return time.astimezone(UTC)
        except OverflowError as error:
            # PostgreSQL would store it, and nobody could read the row again.
            raise ValidationError("Must be in the years 1 to 9999, in UTC.") from error

    def _serialize(self, value: datetime | None, *args: Any, **kwargs: Any) -> str | None:
        return None if value is None else value.isoformat().replace("+00:00", "Z")


class Compiled:
    """A schema's dump for rows whose columns are named as the schema's fields."""

    def __init__(self, schema: Schema) -> None:
        """Take the schema.

        Raises TypeError when a field isn't one that orjson writes as marshmallow does.
        """
        for name, field in schema.dump_fields.items():
            _check_field(name, field)
        self.schema = schema
        self.names = tuple(schema.dump_fields)

    def one(self, row: Any) -> dict[str, Any]:
        """Return the wire form of a mapping, a row or an object."""
        if isinstance(row, Mapping):
            return {name: row[name] for name in self.names}
        return {name: getattr(row, name) for name in self.names}


_PLAIN = (fields.UUID, fields.String, Time, fields.Integer, fields.Boolean, fields.Dict)


def _check_field(name: str, field: fields.Field[Any]) -> None:
    inner = field.inner if isinstance(field, fields.List) else field
    if not isinstance(inner, _PLAIN) or field.attribute or field.data_key:
        raise TypeError(f"{name}: a compiled schema has plain fields under their own names")
