"""Decode one document by its type, with an error that names the path, the value and what was expected."""

import re
from decimal import Decimal
from typing import Any

import msgspec

from contracts import DOCUMENT_TYPES
from contracts.base import Contract

_PLACE = re.compile(r"(?P<expected>.*?)(?: - at `(?P<path>\$.*)`)?", re.DOTALL)
_STEP = re.compile(r"\.([^.\[\]]+)|\[(\d+)\]")
_decoders = {name: msgspec.json.Decoder(contract) for name, contract in DOCUMENT_TYPES.items()}


class InvalidDocument(ValueError):
    """No such document. `path` is where (`$.tasks[1].id`), `value` what stands there, `expected` what should."""

    def __init__(self, path: str, value: str | None, expected: str) -> None:
        super().__init__(f"{path}: {expected}" if value is None else f"{path} is {value}: {expected}")
        self.path, self.value, self.expected = path, value, expected


def decode_document(document_type: str, body: bytes) -> Contract:
    """The document in `body` (JSON), of a type such as `time_entry.v1`.

    Raises:
      InvalidDocument: not JSON, or not such a document; the text says where and why.
    """
    decoder = _decoders.get(document_type)
    if decoder is None:
        raise InvalidDocument("$", None, f"{document_type!r} is no document type, expected {', '.join(_decoders)}")
    document: Contract = decoded(decoder, body)
    for name in document.__struct_fields__:
        value = getattr(document, name)
        if isinstance(value, Decimal) and not value.is_finite():
            raise InvalidDocument(f"$.{name}", f"'{value}'", "expected a finite decimal")
    return document


def decoded(decoder: msgspec.json.Decoder[Any], body: bytes) -> Any:
    """What the decoder makes of `body`.

    Raises:
      InvalidDocument: not JSON, or not of the decoder's type; the text says where, what stands there, and why.
    """
    try:
        return _decoded(decoder, body)
    except UnicodeDecodeError as error:
        raise InvalidDocument("$", None, f"expected UTF-8, found byte {error.object[error.start]:#04x}") from None
    except (msgspec.DecodeError, RecursionError) as error:
        raise InvalidDocument("$", None, f"expected JSON: {error}") from None


def _decoded(decoder: msgspec.json.Decoder[Any], body: bytes) -> Any:
    try:
        return decoder.decode(body)
    except msgspec.ValidationError as error:
        # The value is only there to be shown in what is JSON throughout, which the decoder may not have got to see.
        raise _explained(error, msgspec.json.decode(body)) from None


def _explained(error: msgspec.ValidationError, content: Any) -> InvalidDocument:
    match = _PLACE.fullmatch(str(error))
    assert match is not None
    path, expected = match["path"] or "$", match["expected"]
    value = _at(path, content)
    shown = None if "missing required field" in expected else _shown(value)
    return InvalidDocument(path, shown, expected[:1].lower() + expected[1:])


def _at(path: str, value: Any) -> Any:
    """What stands at a path such as `$.tasks[1].id`."""
    for key, index in _STEP.findall(path):
        try:
            value = value[key] if key else value[int(index)]
        except (KeyError, IndexError, TypeError):
            return None
    return value


def _shown(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 80 else f"{text[:77]}..."
