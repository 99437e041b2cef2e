"""What every contract shares: immutable, keyword-only, tolerant of fields it does not know."""

from typing import Annotated

import msgspec


class Contract(msgspec.Struct, frozen=True, kw_only=True):
    """Base of everything that travels.

    `frozen` and `kw_only` are written on every subclass as well: neither the type checker nor
    msgspec carries them over. Unknown fields are ignored, so an older reader takes a newer message.
    """


#: Classified fields say so in their JSON Schema (`x-classification`); readers without the right see them masked.
CONFIDENTIAL = msgspec.Meta(extra_json_schema={"x-classification": "confidential"})
PERSONAL = msgspec.Meta(extra_json_schema={"x-classification": "personal"})

#: An id in its own system: never empty, and short enough to index.
Id = Annotated[str, msgspec.Meta(min_length=1, max_length=200)]

#: ISO 4217 alphabetic code; whether it exists is a rule (`validate`), not a shape.
CurrencyCode = Annotated[str, msgspec.Meta(pattern="^[A-Z]{3}$")]

#: ISO 3166-1 alpha-2.
CountryCode = Annotated[str, msgspec.Meta(pattern="^[A-Z]{2}$")]
