"""SKUs and discount codes in requests."""

import re
from typing import Any

from marshmallow import ValidationError

from app.orders.values import LABEL, LABEL_MAX
from app.platform.fields import Text


class Label(Text):
    """A SKU or a code: 1 to 64 of `A-Z a-z 0-9 . _ -`."""

    def __init__(self, example: str, **kwargs: Any) -> None:
        """Take an example, and marshmallow's field options."""
        metadata = {"pattern": f"^{LABEL}$", "example": example}
        super().__init__(1, LABEL_MAX, metadata=metadata, **kwargs)

    def _deserialize(self, value: Any, attr: str | None, data: Any, **kwargs: Any) -> str:
        label = super()._deserialize(value, attr, data, **kwargs)
        # A wrong length is refused for that.
        if 1 <= len(label) <= LABEL_MAX and not re.fullmatch(LABEL, label):
            raise ValidationError("Must be made of A-Z, a-z, 0-9, '.', '_' and '-'.")
        return label
