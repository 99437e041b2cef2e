"""The catalogue of contracts: which document types there are, and their JSON Schemas."""

from typing import Any

import msgspec

from contracts import DOCUMENT_TYPES
from contracts.base import Contract

DIALECT = "https://json-schema.org/draft/2020-12/schema"


class UnknownContract(LookupError):
    """No document type has this name; the text lists those there are."""


class Listed(msgspec.Struct, frozen=True, kw_only=True):
    """One document type in one line."""

    document_type: str
    title: str
    required: tuple[str, ...]


def list_contracts() -> list[Listed]:
    """Every document type, in the order they depend on each other."""
    return [
        Listed(
            document_type=name,
            title=(contract.__doc__ or "").strip().partition("\n")[0],
            required=tuple(field.name for field in msgspec.structs.fields(contract) if field.required),
        )
        for name, contract in DOCUMENT_TYPES.items()
    ]


def find_contract(name: str) -> tuple[str, type[Contract]]:
    """A contract by its name with or without a version; without, the newest.

    Raises:
      UnknownContract: there is none.
    """
    fits = [known for known in DOCUMENT_TYPES if name in (known, known.partition(".")[0])]
    if not fits:
        raise UnknownContract(f"{name!r} is not a document type: {', '.join(DOCUMENT_TYPES)}")
    return fits[-1], DOCUMENT_TYPES[fits[-1]]


def json_schema(name: str) -> dict[str, Any]:
    """The JSON Schema of one contract, as one self-contained object.

    Raises:
      UnknownContract: there is none of this name.
    """
    document_type, contract = find_contract(name)
    schema = msgspec.json.schema(contract)
    definitions = dict(schema["$defs"])
    own = definitions.pop(schema["$ref"].rpartition("/")[2])
    return {"$schema": DIALECT, "$id": f"urn:tieout:{document_type}", **own} | (
        {"$defs": definitions} if definitions else {}
    )
