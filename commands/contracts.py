"""`tieout contracts`: the document types, their fields, and their JSON Schemas."""

from inspect import cleandoc
from pathlib import Path
from typing import Any

import click
import msgspec

from commands.app import TidyGroup
from commands.output import json_option, print_json, print_table, say
from contracts import DOCUMENT_TYPES
from ops.catalogue import find_contract, json_schema, list_contracts


@click.group(cls=TidyGroup)
def contracts() -> None:
    """The documents that travel: their fields and JSON Schemas.

    \b
    Example:
      tieout contracts show expense
    """


@contracts.command("list")
@json_option
def list_(as_json: bool) -> None:
    """List the document types, in the order they depend on each other.

    \b
    Example:
      tieout contracts list
    """
    listed = list_contracts()
    if as_json:
        print_json(listed)
        return
    print_table(
        ("document type", "what it is", "required fields"),
        [(one.document_type, one.title, ", ".join(one.required)) for one in listed],
    )


@contracts.command()
@click.argument("document_type")
@json_option
def show(document_type: str, as_json: bool) -> None:
    """Show the fields of one document type; with --json, its JSON Schema.

    \b
    Example:
      tieout contracts show time_entry.v1
    """
    name, contract = find_contract(document_type)
    schema = json_schema(name)
    if as_json:
        print_json(schema)
        return
    say(f"{name}: {cleandoc(contract.__doc__ or '')}")
    say()
    required = schema.get("required", [])
    print_table(
        ("field", "type", "required", "default", "classification"),
        [
            (
                field,
                _kind(properties),
                field in required,
                _default(properties, required=field in required),
                _classification(properties),
            )
            for field, properties in schema["properties"].items()
        ],
    )


@contracts.command()
@click.option("-o", "--out", "directory", type=click.Path(path_type=Path, file_okay=False), help="Write one file each.")
@json_option
def export(directory: Path | None, as_json: bool) -> None:
    """Export every contract as JSON Schema: one document on standard output, or one file each with --out.

    \b
    Example:
      tieout contracts export --out schemas/
    """
    schemas = {name: json_schema(name) for name in DOCUMENT_TYPES}
    if directory is None:
        print_json(schemas)
        return
    directory.mkdir(parents=True, exist_ok=True)
    files = {name: directory / f"{name}.schema.json" for name in schemas}
    for name, file in files.items():
        file.write_bytes(msgspec.json.format(msgspec.json.encode(schemas[name]), indent=2) + b"\n")
    if as_json:
        print_json({name: str(file) for name, file in files.items()})
        return
    for file in files.values():
        say(str(file))


def _kind(schema: dict[str, Any]) -> str:
    """A property's type in a few words: `string (date)`, `array of Task`."""
    if "anyOf" in schema:
        return " or ".join(dict.fromkeys(_kind(choice) for choice in schema["anyOf"] if choice != {"type": "null"}))
    if "$ref" in schema:
        return str(schema["$ref"]).rpartition("/")[2]
    if "enum" in schema:
        return " | ".join(map(str, schema["enum"]))
    if schema.get("type") == "array":
        return f"array of {_kind(schema.get('items', {}))}"
    kind = str(schema.get("type", "any"))
    detail = schema.get("format") or schema.get("pattern")
    return f"{kind} ({detail})" if detail else kind


def _default(schema: dict[str, Any], *, required: bool) -> str:
    default = schema.get("default")
    if required or default is None:
        return ""
    return str(default).lower() if isinstance(default, bool) else str(default)


def _classification(schema: dict[str, Any]) -> str:
    for part in (schema, *schema.get("anyOf", ())):
        if found := part.get("x-classification"):
            return str(found)
    return ""
