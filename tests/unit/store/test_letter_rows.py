"""Causes: what dead letters are grouped by."""

import pytest

from store.letter_rows import cause, cause_length_max, legal_entity, storable


@pytest.mark.parametrize(
    ("one", "another"),
    [
        ("no rate for 'W-7' on 2026-03-05", "no rate for 'W-7' on 2026-04-01"),
        ("25 hours in one entry", "27.5 hours in one entry"),
        ("timed out after 1,200 ms at 2026-03-05T10:00:00Z", "timed out after 900 ms at 2026-03-06 11:00:00.5+01:00"),
        ("request 1b4e28ba-2fa1-11d2-883f-0016d3cca427 failed", "request 6fa459ea-ee8a-3ca4-894e-db77e160355e failed"),
        ("too \n long", "too long"),
    ],
)
def test_what_differs_from_record_to_record_is_no_part_of_the_cause(one: str, another: str) -> None:
    assert cause("CODE", one) == cause("CODE", another)


@pytest.mark.parametrize(
    ("one", "another"),
    [
        ("project P-100 is closed", "project P-101 is closed"),
        ("period 2026-03 is closed", "period 2026-04 is closed"),
        ("the target says '4711'", "the target says '4712'"),
    ],
)
def test_what_has_to_be_mended_on_its_own_is_a_cause_of_its_own(one: str, another: str) -> None:
    assert cause("CODE", one) != cause("CODE", another)


def test_every_missing_mapping_is_a_cause_of_its_own() -> None:
    assert cause("MAPPING_MISSING", "no cost_center mapping for 17") != cause(
        "MAPPING_MISSING", "no cost_center mapping for 18"
    )


def test_a_cause_fits_its_column() -> None:
    assert len(cause("CODE", "x" * 1000)) == cause_length_max


@pytest.mark.parametrize(
    ("body", "entity"),
    [
        (b'{"legal_entity": "A"}', "A"),
        (b'{"document": {"legal_entity": "A"}, "receipt": {}}', "A"),
        (b'{"document": {"legal_entity": "A"}, "attribution": {"legal_entity": "B"}}', "B"),
        (b'{"id": "1"}', None),
        (b'{"legal_entity": 7}', None),
        (b"[1]", None),
        (b"\xff not json", None),
    ],
)
def test_the_legal_entity_is_taken_from_whatever_the_stage_was_given(body: bytes, entity: str | None) -> None:
    assert legal_entity(body) == entity


def test_a_text_from_outside_can_be_stored() -> None:
    assert storable("a\0b\udc00c") == "a?b?c"
