"""Bytes that are out there: one sample per contract version, which decodes for ever."""

from decimal import Decimal
from pathlib import Path

import msgspec
import pytest

from contracts import DOCUMENT_TYPES
from contracts.decoding import InvalidDocument, decode_document
from contracts.money import Money
from ops.catalogue import UnknownContract, json_schema, list_contracts

SAMPLES = Path(__file__).parent / "samples"
FILES = sorted(SAMPLES.glob("*.json"))


def test_every_document_type_has_a_sample():
    assert {file.stem for file in FILES} == set(DOCUMENT_TYPES)


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.stem)
def test_a_sample_decodes_to_every_value_it_holds(file: Path):
    written = msgspec.json.decode(file.read_bytes())
    document = decode_document(file.stem, file.read_bytes())
    assert {"type", *document.__struct_fields__} == set(written), "the sample shows every field of its version"
    assert msgspec.convert(written, type(document), strict=True) == document
    again = msgspec.json.decode(msgspec.json.encode(document))
    instants = {"approved_at"}
    assert {key: again[key] for key in again if key not in instants} == {
        key: written[key] for key in written if key not in instants
    }


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.stem)
def test_a_newer_message_with_a_field_we_do_not_know_still_decodes(file: Path):
    newer = msgspec.json.decode(file.read_bytes()) | {"field_of_next_year": {"a": [1]}}
    assert decode_document(file.stem, msgspec.json.encode(newer)) == decode_document(file.stem, file.read_bytes())


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.stem)
def test_a_message_without_its_optional_fields_decodes(file: Path):
    required = {field.name for field in msgspec.structs.fields(DOCUMENT_TYPES[file.stem]) if field.required}
    least = {key: value for key, value in msgspec.json.decode(file.read_bytes()).items() if key in required}
    assert decode_document(file.stem, msgspec.json.encode(least)).__class__ is DOCUMENT_TYPES[file.stem]


def a_project(**changes: object) -> bytes:
    return msgspec.json.encode(msgspec.json.decode((SAMPLES / "project.v1.json").read_bytes()) | changes)


@pytest.mark.parametrize(
    ("document_type", "body", "said"),
    [
        ("project.v1", a_project(tasks=[{"id": "a"}, {"id": 7}]), ("$.tasks[1].id", "7", "expected `str`")),
        ("project.v1", a_project(budget="lots"), ("$.budget", "'lots'", "decimal")),
        ("project.v1", a_project(currency="euro"), ("$.currency", "'euro'", "^[A-Z]{3}$")),
        ("project.v1", a_project(valid_to="31.12.2026"), ("$.valid_to", "'31.12.2026'", "date")),
        ("project.v1", a_project(id=""), ("$.id", "''", "length >= 1")),
        ("project.v1", a_project(type="customer.v1"), ("$.type", "'customer.v1'")),
        ("project.v1", b'{"id": "P"}', ("$", "missing required field `name`")),
        ("project.v1", b"[1, 2]", ("$", "[1, 2]", "expected `object`")),
        ("project.v1", b"{", ("$", "expected JSON")),
        ("project.v1", b"[" * 100_000, ("$", "expected JSON")),
        ("project.v1", b'{"id": "\xff"}', ("$", "UTF-8", "0xff")),
        ("project.v1", a_project(budget="NaN"), ("$.budget", "'NaN'", "finite")),
        ("invoice.v9", b"{}", ("invoice.v9", "time_entry.v1")),
    ],
)
def test_an_error_names_the_path_the_value_and_what_was_expected(document_type, body, said):
    with pytest.raises(InvalidDocument) as caught:
        decode_document(document_type, body)
    assert all(part in str(caught.value) for part in said), str(caught.value)


def test_a_long_value_is_cut_in_the_error():
    with pytest.raises(InvalidDocument) as caught:
        decode_document("project.v1", a_project(budget="9x" * 10_000))
    assert len(str(caught.value)) < 200


def test_decimals_arrive_exactly_whether_written_as_text_or_as_number():
    as_number = b'{"id": "R", "rate": 0.1000000000000000055511151231257827, "currency": "EUR"}'
    as_text = b'{"id": "R", "rate": "0.1000000000000000055511151231257827", "currency": "EUR"}'
    assert decode_document("rate_card.v1", as_number) == decode_document("rate_card.v1", as_text)


def test_money_on_the_wire_is_text_and_a_code():
    money = Money(amount=Decimal("12.50"), currency="EUR")
    assert msgspec.json.encode(money) == b'{"amount":"12.50","currency":"EUR"}'


def test_the_catalogue_lists_every_type_with_what_it_needs():
    listed = {each.document_type: each for each in list_contracts()}
    assert list(listed) == list(DOCUMENT_TYPES)
    assert listed["expense.v1"].required == ("id", "date", "amount", "currency")
    assert all(each.title.endswith(".") for each in listed.values())


@pytest.mark.parametrize("name", DOCUMENT_TYPES)
def test_a_schema_describes_every_field_and_stands_alone(name: str):
    schema = json_schema(name)
    assert {"type", *DOCUMENT_TYPES[name].__struct_fields__} == set(schema["properties"])
    text = msgspec.json.encode(schema).decode()
    assert all(
        reference.split('"')[0] in {f"#/$defs/{key}" for key in schema.get("$defs", {})}
        for reference in text.split('"$ref":"')[1:]
    )


def test_a_schema_says_which_fields_are_confidential():
    rate = json_schema("time_entry")["properties"]["cost_rate"]
    assert "confidential" in msgspec.json.encode(rate).decode()


def test_an_unknown_contract_is_answered_with_those_there_are():
    with pytest.raises(UnknownContract, match=r"time_entry\.v1"):
        json_schema("timesheet")
