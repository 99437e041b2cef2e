"""JSON pointers (RFC 6901) for answers as they really come: `*` for every element, and JSON inside strings."""

from decimal import Decimal
from typing import Any

import msgspec

#: Money arrives as a number in many answers: its digits stay as they were written.
_decoder = msgspec.json.Decoder(float_hook=Decimal)


def decoded(body: bytes | str) -> Any:
    """A JSON text as plain values, numbers with a point as Decimal.

    Raises:
      ValueError: it is not JSON, not UTF-8, or nested deeper than any document.
    """
    try:
        return _decoder.decode(body)
    except (msgspec.MsgspecError, UnicodeError) as error:
        raise ValueError(str(error)) from None
    except RecursionError:
        raise ValueError("nested too deeply") from None


def values(document: Any, pointer: str) -> list[Any]:
    """What the pointer leads to: nothing where it leads nowhere, several with `*`.

    A string on the way is read as JSON: Frappe's `_server_messages` is JSON in JSON in JSON.
    """
    found = [document]
    for token in pointer.split("/")[1:]:
        name = token.replace("~1", "/").replace("~0", "~")
        found = [step for value in found for step in _steps(value, name)]
    return [value for value in found if value is not None]


def first(document: Any, pointers: tuple[str, ...]) -> Any:
    """The first thing that any of the pointers leads to, in their order; None when none leads anywhere."""
    for pointer in pointers:
        for value in values(document, pointer):
            if value not in ("", [], {}):
                return value
    return None


def _steps(value: Any, name: str) -> list[Any]:
    if isinstance(value, str) and value[:1] in ("{", "[", '"'):
        try:
            value = decoded(value)
        except ValueError:
            return []
    if isinstance(value, dict):
        return list(value.values()) if name == "*" else [value[name]] if name in value else []
    if isinstance(value, list):
        if name == "*":
            return value
        return [value[int(name)]] if name.isdecimal() and int(name) < len(value) else []
    return []
