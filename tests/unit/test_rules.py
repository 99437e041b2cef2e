"""The rules file: what can be said in it, what it means, and what is refused with which words."""

import re
import tomllib
from datetime import date
from decimal import Decimal
from pathlib import Path

import msgspec
import pytest

from contracts import DOCUMENT_TYPES
from pipeline.codes import CATALOGUE
from pipeline.rules import InvalidRules, LegalEntity, Ownership, Route, Rules, load_rules, same_type

ROOT = Path(__file__).parents[2]
EXAMPLE = ROOT / "examples" / "rules.toml"
REFERENCE_PAGE = ROOT / "docs" / "rules.md"
DAY = date(2026, 3, 4)


@pytest.fixture
def load(tmp_path):
    def load(text: str) -> Rules:
        path = tmp_path / "rules.toml"
        path.write_text(text)
        return load_rules(path)

    return load


def test_without_a_file_and_with_an_empty_one_the_same_defaults_hold(load):
    assert load_rules(None) == load("") == Rules()


# Ownership


def test_a_type_that_no_row_names_may_come_from_anywhere():
    rules = Rules(ownership=(Ownership(document_type="worker", sources=("hr",)),))
    assert rules.may_publish("anyone", "project.v1", DAY)
    assert rules.may_publish("hr", "worker.v1", DAY)
    assert not rules.may_publish("psa", "worker.v1", DAY)
    assert (rules.names_owner("worker.v1"), rules.names_owner("project.v1")) == (True, False)


def test_a_type_that_is_owned_has_no_owner_outside_the_dates_rather_than_any():
    rules = Rules(ownership=(Ownership(document_type="worker", sources=("hr",), valid_from=DAY),))
    assert not rules.may_publish("hr", "worker.v1", date(2026, 3, 3))
    assert not rules.may_publish("psa", "worker.v1", date(2026, 3, 3))


def test_several_sources_may_own_a_type_and_the_star_is_all_of_them():
    rows = (
        Ownership(document_type="expense", sources=("travel", "cards")),
        Ownership(document_type="expense", sources=("*",), valid_from=date(2027, 1, 1)),
    )
    rules = Rules(ownership=rows)
    assert rules.owners_of("expense.v1", DAY) == ("travel", "cards")
    assert rules.may_publish("cards", "expense.v1", DAY)
    assert not rules.may_publish("psa", "expense.v1", DAY)
    assert rules.may_publish("psa", "expense.v1", date(2027, 1, 1))


def test_a_name_without_version_means_every_version():
    assert same_type("time_entry", "time_entry.v2")
    assert same_type("time_entry.v1", "time_entry.v1")
    assert not same_type("time_entry.v1", "time_entry.v2")
    assert not same_type("time", "time_entry.v1")


# Routing


def test_by_default_master_data_is_kept_and_everything_else_booked():
    for document_type in DOCUMENT_TYPES:
        expected = ("ledger",) if document_type in ("time_entry.v1", "expense.v1") else ("masterdata",)
        assert Rules().targets_of(document_type, "MAIN", DAY) == expected


def test_master_data_is_kept_whatever_the_routing_says():
    routing = (
        Route(document_type="customer", targets=("netsuite",)),
        Route(document_type="project", targets=("masterdata",)),
        Route(document_type="*", targets=("ledger",)),
    )
    rules = Rules(routing=routing)
    assert rules.targets_of("customer.v1", "MAIN", DAY) == ("masterdata", "netsuite")
    assert rules.targets_of("project.v1", "MAIN", DAY) == ("masterdata",)
    assert rules.targets_of("worker.v1", "MAIN", DAY) == ("masterdata",)


def test_routing_of_ones_own_replaces_the_default():
    rules = Rules(routing=(Route(document_type="expense", targets=("netsuite",)),))
    assert rules.targets_of("expense.v1", "MAIN", DAY) == ("netsuite",)
    assert rules.targets_of("time_entry.v1", "MAIN", DAY) == ()


# Legal entities, references, mappings


def test_where_no_entity_is_defined_every_name_is_one_in_the_default_currency():
    assert Rules(default_currency="CHF").entity("anything") == LegalEntity(currency="CHF")
    rules = Rules(legal_entities={"DE01": LegalEntity(currency="EUR")}, default_legal_entity="DE01")
    assert rules.entity("anything") is None
    assert rules.entity("DE01") == LegalEntity(currency="EUR")


def test_references_and_requirements_are_found_with_and_without_version():
    rules = Rules(references={"project": "required"}, required={"expense": ("worker",), "expense.v1": ("category",)})
    assert (rules.reference_policy("project.v1"), rules.reference_policy("worker.v1")) == ("required", "auto")
    assert rules.required_of("expense.v1") == ("worker", "category")
    assert rules.required_of("time_entry.v1") == ()


def test_mappings_add_to_the_defaults_kind_by_kind(load):
    rules = load('[mappings."worker:psa"]\nu1 = "E-1"\n')
    assert rules.fallback("worker:psa", "u1") == "E-1"
    assert rules.fallback("worker:psa", "u2") is None
    assert rules.fallback("expense_account", "whatever") == "6200"
    own = load('[mappings.expense_account]\nTravel = "6210"\n')
    assert own.fallback("expense_account", "Hotel") is None


def test_who_fills_in_a_mapping_is_a_role_by_kind(load):
    rules = load('[mapping_owners]\nexpense_account = "it"\n"worker:psa" = "pmo"\n')
    owners = [rules.mapping_owner(kind) for kind in ("expense_account", "worker:psa", "worker:crm", "exchange_rate")]
    assert owners == ["it", "pmo", "hr", "finance"]


def test_units_add_to_the_defaults(load):
    assert load("[hours_per_unit]\nWEE = 40\nDAY = 7.5\n").hours_per_unit == {
        "HUR": Decimal(1),
        "DAY": Decimal("7.5"),
        "WEE": Decimal(40),
    }


# What is refused


def test_a_file_that_is_not_there_is_named(tmp_path):
    with pytest.raises(InvalidRules, match=r"nowhere\.toml: no such rules file"):
        load_rules(tmp_path / "nowhere.toml")
    with pytest.raises(InvalidRules, match=re.escape(str(tmp_path))):
        load_rules(tmp_path)


ENTITIES = 'default_legal_entity = "DE01"\n[legal_entities.DE01]\ncurrency = "EUR"\n'


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("x = ", "rules.toml"),
        ("colour = 1", "colour"),
        ('hours_per_day_max = "many"', "hours_per_day_max"),
        ("hours_per_day_max = 0", "hours_per_day_max = 0: expected a number above 0"),
        ("future_days_max = -1", "future_days_max = -1"),
        ("approved_states = []", "approved_states"),
        ('zero_amounts = "maybe"', "maybe"),
        ('default_currency = "ABC"', "default_currency = 'ABC' is not an ISO 4217 currency"),
        (
            '[legal_entities.DE01]\ncurrency = "EUR"',
            "default_legal_entity = 'MAIN' is not one of [legal_entities]: DE01",
        ),
        (ENTITIES.replace("EUR", "XXX"), "[legal_entities.DE01] currency = 'XXX'"),
        (ENTITIES.replace("currency", "curency"), "curency"),
        ('[references]\nproject = "sometimes"', "sometimes"),
        ('[references]\ntime_entry = "required"', "[references] time_entry: expected a type of master data"),
        ('[required]\ntimesheet = ["task"]', "[required] timesheet: expected a document type"),
        ('[required]\ntime_entry = ["taks"]', "[required] time_entry: no attribute 'taks'"),
        ('[identity_required]\nemployee = ["psa"]', "[identity_required] employee: expected one of worker"),
        ('[identity_required]\nworker = "psa"', "identity_required"),
        ('[mapping_owners]\nworker = "boss"', "[mapping_owners] worker = 'boss': expected one of finance, pmo, hr, it"),
        ("[hours_per_unit]\nDAY = 0", "[hours_per_unit] DAY = 0"),
        ('[[ownership]]\ndocument_type = "*"\nsources = ["a"]', "[[ownership]] number 1: document_type = '*'"),
        ('[[ownership]]\ndocument_type = "expense"\nsources = []', "[[ownership]] number 1: sources names nobody"),
        ('[[routing]]\ndocument_type = "*"\ntargets = []', "[[routing]] number 1: targets names nobody"),
        (
            '[[routing]]\ndocument_type = "*"\ntargets = ["a"]\n[[routing]]\ndocument_type = "bill"\ntargets = ["a"]',
            "[[routing]] number 2: document_type = 'bill'",
        ),
        (
            '[[routing]]\ndocument_type = "*"\ntargets = ["a"]\nvalid_from = 2026-02-01\nvalid_to = 2026-01-31',
            "valid_from 2026-02-01 is after valid_to 2026-01-31",
        ),
        (
            ENTITIES + '[[routing]]\ndocument_type = "*"\ntargets = ["a"]\nlegal_entity = "FR01"',
            "legal_entity = 'FR01' is not one of [legal_entities]: DE01",
        ),
    ],
)
def test_what_does_not_exist_is_refused_with_its_place(load, text, words):
    with pytest.raises(InvalidRules, match=re.escape(words)):
        load(text)


# The example and the page


def test_the_example_loads_and_says_what_its_comments_say():
    rules = load_rules(EXAMPLE)
    before, after = date(2026, 3, 31), date(2026, 4, 1)
    assert rules.may_publish("openair", "time_entry.v1", before)
    assert not rules.may_publish("openair", "time_entry.v1", after)
    assert rules.may_publish("kantata", "time_entry.v1", after)
    assert rules.targets_of("expense.v1", "CH01", after) == ("ledger",)
    assert rules.entity("CH01") == LegalEntity(name="Halden Beratung AG", currency="CHF", tax_regime="CH-VAT")
    assert rules.reference_policy("project.v1") == "required"
    assert rules.fallback("exchange_rate", "CHF/EUR") == "1.0650"
    assert rules.fallback("expense_account", "Travel") == "6210"


def test_the_example_uses_every_key():
    used = tomllib.loads(EXAMPLE.read_text())
    assert set(used) == set(Rules.__struct_fields__)
    for table, row in (("ownership", Ownership), ("routing", Route)):
        assert {key for one in used[table] for key in one} == set(row.__struct_fields__)
    assert {key for one in used["legal_entities"].values() for key in one} == set(LegalEntity.__struct_fields__)


def test_the_page_explains_every_key_with_its_default():
    page = REFERENCE_PAGE.read_text()
    for key in Rules.__struct_fields__:
        assert f"`{key}`" in page or f"`[{key}]`" in page or f"`[[{key}]]`" in page, key
    for row in (Ownership, Route, LegalEntity):
        for key in row.__struct_fields__:
            assert f"`{key}`" in page, key
    scalars = {key: value for key, value in msgspec.structs.asdict(Rules()).items() if isinstance(value, int | str)}
    for key, value in scalars.items():
        shown = f'"{value}"' if isinstance(value, str) else str(value)
        assert f"| `{key}` | `{shown}` |" in page, key


def test_the_codes_on_the_page_have_the_owners_of_the_catalogue():
    rows = re.findall(r"^\| .* \| ((?:`[A-Z_]+`(?:, )?)+) \| ([a-z, ]+) \|$", REFERENCE_PAGE.read_text(), re.MULTILINE)
    assert len(rows) >= 10
    for codes, owners in rows:
        names = re.findall("[A-Z_]+", codes)
        assert {CATALOGUE[name].owner for name in names} == set(owners.split(", ")), names


def test_every_toml_on_the_page_loads(load):
    blocks = re.findall(r"^```toml\n(.*?)^```", REFERENCE_PAGE.read_text(), re.MULTILINE | re.DOTALL)
    assert len(blocks) > 5
    for block in blocks:
        assert load(block)


def test_the_worked_example_of_the_page_is_the_example_file():
    assert EXAMPLE.read_text() in REFERENCE_PAGE.read_text()
