"""The mapping file: what it can say, and one clear line where it says something that does not hold."""

from datetime import UTC, date, datetime
from decimal import Decimal
from pathlib import Path

import pytest

from contracts.expense import Expense
from contracts.project import Task
from ops.ingest.layout import InvalidMapping
from ops.ingest.mapping import load_mapping
from ops.ingest.reader import open_rows
from tests.acceptance.declarations import a_small_file, truth_of
from tests.unit.ingest.files import EXPENSE, a_file, a_mapping, translate

EXAMPLES = Path(__file__).resolve().parents[3] / "examples"


def one(tmp_path: Path, mapping: str, content: str, name: str = "export.csv"):
    """The single mapped record of a file."""
    mapped, refused, _ = translate(a_file(tmp_path, content, name), a_mapping(tmp_path, mapping))
    assert not refused
    return mapped[0]


def refusal(tmp_path: Path, mapping: str, content: str, name: str = "export.csv") -> tuple[int, str, str]:
    """The single refused row of a file."""
    mapped, refused, _ = translate(a_file(tmp_path, content, name), a_mapping(tmp_path, mapping))
    assert not mapped
    return refused[0]


def test_the_timesheet_example_maps_what_it_says():
    mapped, refused, filtered = translate(
        EXAMPLES / "timesheet" / "entries.csv", load_mapping(EXAMPLES / "timesheet" / "mapping.toml")
    )
    entries = [each.document for each in mapped]
    assert [entry.id for entry in entries] == ["10001", "10002", "10003", "10004", "10007"]
    assert entries[0].rate == Decimal(1250)
    assert entries[0].date == date(2026, 3, 2)
    assert mapped[0].revision == "2026-03-02T17:04:00+00:00"
    assert entries[1].note == 'Kick-off; "phase 2",\nwith the customer'
    assert (entries[2].category, entries[2].billable, entries[2].rate) == ("travel", False, None)
    assert entries[3].project is None
    assert sum(entry.hours for entry in entries) == Decimal("26.75")
    assert filtered == 1
    assert [(row, column) for row, column, _ in refused] == [(6, "Hours")]


def test_the_declarations_example_maps_every_final_approval(tmp_path):
    file = a_small_file(tmp_path / "declarations.csv", declarations=60)
    truth = truth_of(file)
    mapped, refused, filtered = translate(file, load_mapping(EXAMPLES / "bpi2020" / "mapping.toml"))
    assert (len(mapped), refused, filtered) == (truth.approvals, [], truth.rows - truth.approvals)
    assert {each.subject: each.document.amount for each in mapped} == truth.amounts
    assert len({(each.subject, each.revision) for each in mapped}) == truth.approvals
    assert mapped[0].document.task is None


def test_the_readme_of_the_declarations_example_has_six_steps():
    lines = (EXAMPLES / "bpi2020" / "README.md").read_text().splitlines()
    assert [line[:2] for line in lines if line and line[0].isdigit()] == [f"{n}." for n in range(1, 7)]


def test_json_lines_reach_into_objects_and_keep_numbers_exact(tmp_path):
    mapping = """
        document_type = "expense"
        source = "api"
        id = ["tenant", "ref.id"]
        revision = { column = "version", type = "integer" }
        where = { "state.name" = "approved", deleted = { not = true } }
        [fields]
        date = "booked"
        amount = "money.value"
        currency = "money.currency"
        billable = "billable"
        note = "note"
        """
    line = (
        '{"tenant": 7, "ref": {"id": "a/b"}, "version": 12, "state": {"name": "approved"}, "deleted": false, '
        '"booked": "2026-03-01T08:00:00Z", "money": {"value": 0.10, "currency": "EUR"}, '
        '"billable": true, "note": null}\n'
    )
    record = one(tmp_path, mapping, line, "api.jsonl")
    assert (record.subject, record.revision) == ("7/a%2Fb", "12")
    assert record.document == Expense(
        id="7/a%2Fb", date=date(2026, 3, 1), amount=Decimal("0.10"), currency="EUR", billable=True
    )


def test_ids_of_several_columns_never_run_into_each_other(tmp_path):
    text = EXPENSE.replace('id = "id"', 'id = ["a", "b"]')
    content = "a,b,date,amount\nx/y,z,2026-01-01,1\nx,y/z,2026-01-01,1\nx%2Fy,z,2026-01-01,1\n"
    mapped, _, _ = translate(a_file(tmp_path, content), a_mapping(tmp_path, text))
    assert len({each.subject for each in mapped}) == 3


@pytest.mark.parametrize(
    ("where", "left"),
    [
        ('s = "A"', "1"),
        ('s = ["A", "B"]', "12"),
        ('s = { not = "A" }', "234"),
        ('s = { not = ["A", "B"] }', "34"),
        ("s = { present = true }", "12"),
        ("s = { present = false }", "34"),
        ('s = { not = "A", present = true }', "2"),
        ("n = 1", "1"),
        ('s = "A"\nn = 2', ""),
    ],
)
def test_where_keeps_only_the_rows_that_meet_every_condition(tmp_path, where, left):
    conditions = ", ".join(where.splitlines())
    mapping = a_mapping(tmp_path, top=f'null_words = ["-"]\nwhere = {{ {conditions} }}')
    file = a_file(tmp_path, "id,date,amount,s,n\n" + "".join(
        f"{number},2026-01-01,1,{s},{number}\n" for number, s in enumerate(("A", " B ", "", "-"), 1)
    ))  # fmt: skip
    mapped, refused, filtered = translate(file, mapping)
    assert "".join(each.subject for each in mapped) == left
    assert filtered == 4 - len(left)
    assert not refused


@pytest.mark.parametrize(
    ("line", "cell", "value"),
    [
        ('category = { column = "x", values = { T = "travel" } }', "T", "travel"),
        ('category = { column = "x", values = { T = "travel" }, default = "other" }', "Q", "other"),
        ('category = { column = "x", values = { T = "travel" }, default = "other" }', "", "other"),
        ('category = { column = "x", values = { T = "travel" }, others = "keep" }', "Q", "Q"),
        ('category = { column = "x", null_words = ["n/a"] }', "n/a", None),
        ('category = "x"', "  spaced  out ", "spaced  out"),
        ('category = "x"', "=1+1", "=1+1"),
        ('tax = { column = "x", strip = ["EUR", "€"] }', "1.20 EUR", Decimal("1.20")),
        ('tax = { column = "x", decimal = ",", thousands = "." }', "1.234,5", Decimal("1234.50")),
        ('tax = { column = "x", factor = "1/3", scale = 2 }', "1", Decimal("0.33")),
        ('tax = { column = "x", factor = 0.01 }', "1234", Decimal("12.34")),
        ('tax = { column = "x", factor = -1 }', "5", Decimal("-5.00")),
        ('tax = { column = "x", scale = 2 }', "0.005", Decimal("0.01")),
        ('tax = { column = "x", scale = 2 }', "-0.005", Decimal("-0.01")),
        ('tax = { column = "x", default = 0 }', "", Decimal("0.00")),
        ("tax = { constant = 1.5 }", "", Decimal("1.50")),
        ('billable = { column = "x", values = { intern = false, extern = true } }', "intern", False),
        ('billable = { column = "x", default = false }', "", False),
        ("billable = { constant = true }", "", True),
        ('approved_at = { column = "x", format = "%d/%m/%y %H:%M", timezone = "America/New_York" }', "01/07/26 08:00",
         datetime(2026, 7, 1, 12, tzinfo=UTC)),
        ('rate = { column = "x" }', "1.23456789", Decimal("1.23456789")),
        ('rate = { column = "x", type = "duration" }', "7:20", Decimal("7.3333")),
        ('rate = { column = "x", type = "duration", scale = 2 }', "PT7H20M", Decimal("7.33")),
        ('rate = { column = "x", type = "integer", factor = "1/60", scale = 2 }', "100", Decimal("1.67")),
    ],
)  # fmt: skip
def test_a_cell_becomes_a_value(tmp_path, line, cell, value):
    content = f'id,date,amount,x\nE,2026-01-01,1,"{cell}"\n'
    record = one(tmp_path, EXPENSE + line, content)
    assert getattr(record.document, line.partition(" ")[0]) == value


@pytest.mark.parametrize(
    ("line", "cell", "column", "hint"),
    [
        ('tax = "x"', "1.234", "x", "add `scale = 2`"),
        ('tax = "x"', "eleven", "x", "not a number"),
        ('tax = { column = "x", scale = 2 }', "9" * 16, "x", "too large"),
        ('category = { column = "x", values = { T = "travel" } }', "Q", "x", "others"),
        ('billable = "x"', "perhaps", "x", "yes nor no"),
        ('billable = "x"', "", "x", "default"),
        ('status = "x"', "", "x", "default"),
        ('original_currency = "x"', "euro", "x", "three capital letters"),
        ('project = "x"', "p" * 201, "x", "length <= 200"),
        ('approved_at = "x"', "2026-01-01 10:00", "x", "timezone"),
    ],
)
def test_a_refused_cell_is_named_with_its_value_and_a_hint(tmp_path, line, cell, column, hint):
    row, named, reason = refusal(tmp_path, EXPENSE + line, f"id,date,amount,x\nE,2026-01-01,1,{cell}\n")
    assert (row, named) == (1, column)
    assert hint in reason
    assert cell[:10] in reason


@pytest.mark.parametrize(
    ("content", "column"),
    [
        ("id,date,amount\n,2026-01-01,1\n", "id"),
        ("id,date,amount\nE,,1\n", "date"),
        ("id,date,amount\nE,2026-01-01,\n", "amount"),
        ("id,date,amount\n" + "E" * 201 + ",2026-01-01,1\n", "id"),
        ("id,date,amount\nE\x1fF,2026-01-01,1\n", "id"),
    ],
)
def test_what_a_record_can_not_do_without_is_refused_when_it_is_missing(tmp_path, content, column):
    assert refusal(tmp_path, EXPENSE, content)[1] == column


def test_an_amount_gets_the_decimals_of_its_currency(tmp_path):
    text = EXPENSE.replace('{ constant = "EUR" }', '"c"')
    content = "id,date,amount,c\n1,2026-01-01,1,EUR\n2,2026-01-01,100.0,JPY\n3,2026-01-01,1.005,KWD\n"
    mapped, refused, _ = translate(a_file(tmp_path, content), a_mapping(tmp_path, text))
    assert [str(each.document.amount) for each in mapped] == ["1.00", "100", "1.005"]
    content = "id,date,amount,c\n1,2026-01-01,1.50,JPY\n2,2026-01-01,1.005,QQQ\n"
    mapped, refused, _ = translate(a_file(tmp_path, content), a_mapping(tmp_path, text))
    assert [row for row, _, _ in refused] == [1]
    assert mapped[0].document.currency == "QQQ", "whether a currency exists is a rule of validate"


def test_text_from_json_with_a_nul_or_an_object_is_refused(tmp_path):
    text = EXPENSE + 'note = "note"'
    for note in ('"a\\u0000b"', '{"a": 1}', "[1]"):
        line = f'{{"id": "E", "date": "2026-01-01", "amount": 1, "note": {note}}}\n'
        assert refusal(tmp_path, text, line, "x.jsonl")[1] == "note"


def test_tasks_come_from_a_list_of_objects_or_of_ids(tmp_path):
    text = """
        document_type = "project.v1"
        source = "psa"
        id = "id"
        [fields]
        name = "name"
        tasks = "tasks"
        """
    line = '{"id": "P", "name": "p", "tasks": [{"id": "T1", "billable": false}, {"id": "T2"}]}\n'
    assert one(tmp_path, text, line, "p.jsonl").document.tasks == (Task(id="T1", billable=False), Task(id="T2"))
    text = text.replace('tasks = "tasks"', 'tasks = { column = "tasks", separator = ";" }')
    record = one(tmp_path, text, "id,name,tasks\nP,p,T1; T2\n")
    assert record.document.tasks == (Task(id="T1"), Task(id="T2"))


@pytest.mark.parametrize(
    ("spec", "cells", "revisions"),
    [
        ('"r"', ["A", "B"], ["A", "B"]),
        ('{ column = "r", type = "integer" }', ["007", "8"], ["7", "8"]),
        ('{ column = "r", type = "date", format = "%d.%m.%Y" }', ["01.02.2026", "02.02.2026"],
         ["2026-02-01", "2026-02-02"]),
        ('{ column = "r", type = "timestamp" }', ["2026-01-01T01:00:00+01:00", "2026-01-01T00:00:00Z"],
         ["2026-01-01T00:00:00+00:00"] * 2),
    ],
)  # fmt: skip
def test_a_revision_has_one_spelling(tmp_path, spec, cells, revisions):
    mapping = a_mapping(tmp_path, top=f"revision = {spec}")
    rows = "".join(f"E,2026-01-01,1,{cell}\n" for cell in cells)
    mapped, _, _ = translate(a_file(tmp_path, f"id,date,amount,r\n{rows}"), mapping)
    assert [each.revision for each in mapped] == revisions


@pytest.mark.parametrize(
    ("top", "fields", "said"),
    [
        ('documenttype = "x"', "", ("documenttype", "'document_type'")),
        ('wher = { a = "b" }', "", ("wher", "'where'")),
        ("", 'amout = "x"', ("amout", "'amount'")),
        ("", 'note = { colum = "x" }', ("fields.note.colum", "'column'")),
        ("", "note = { }", ("fields.note", "column", "constant")),
        ("", "note = 5", ("fields.note", "constant")),
        ("", 'note = { column = "x", constant = "y" }', ("fields.note", "either")),
        ("", 'note = { column = "x", scale = 2 }', ("fields.note.scale", "text")),
        ("", 'tax = { column = "x", type = "number" }', ("fields.tax.type", "decimal")),
        ("", 'tax = { column = "x", scale = "two" }', ("fields.tax.scale", "int")),
        ("", 'tax = { column = "x", factor = "1/60" }', ("fields.tax.factor", "scale")),
        ("", 'tax = { column = "x", factor = "1/0" }', ("fields.tax.factor", "fraction")),
        ("", 'tax = { column = "x", default = "none" }', ("fields.tax.default", "number")),
        ("", 'tax = { constant = "none" }', ("fields.tax.constant", "number")),
        ("", 'billable = { column = "x", values = { a = "perhaps" } }', ('values."a"', "perhaps")),
        ("", 'approved_at = { column = "x", timezone = "Berlin" }', ("timezone", "Europe/Berlin")),
        ("", 'id = "x"', ("fields.id", "at the top")),
        ("where = { a = { matches = 'x' } }", "", ("where.a", "not =")),
        ("where = { user.id = 'x' }", "", ("where.user", "quotes")),
        ('revision = { column = "r", type = "float" }', "", ("revision.type", "timestamp")),
        ('format = "xlsx"', "", ("format", "jsonl")),
        ('delimiter = "::"', "", ("delimiter", "single")),
        ('delimiter = "\\""', "", ("quote", "delimiter")),
        ('thousands = "."', "", ("thousands", "decimal")),
        ("skip_lines = -1", "", ("skip_lines",)),
        ("= broken", "", ("not a TOML file",)),
    ],
)
def test_a_mistake_in_a_mapping_is_one_clear_line(tmp_path, top, fields, said):
    with pytest.raises(InvalidMapping) as caught:
        a_mapping(tmp_path, top=top, fields=fields)
    text = str(caught.value)
    assert "mapping.toml" in text
    assert "\n" not in text
    assert all(part in text for part in said), text


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ('document_type = "expens"\nsource = "a"\nid = "a"\n[fields]', "did you mean 'expense.v1'"),
        ('document_type = "expense"\nsource = "a"\nid = "a"\n[fields]\ndate = "d"', "amount, currency"),
        ('document_type = "expense"\nsource = "a"\n[fields]', "missing required field `id`"),
        ('document_type = "expense"\nsource = ""\nid = "a"\n[fields]\ndate="d"\namount="a"\ncurrency="c"', "source"),
        ('document_type = "expense"\nsource = "a"\nid = []\n[fields]\ndate="d"\namount="a"\ncurrency="c"', "id"),
    ],
)
def test_what_every_mapping_needs_is_asked_for(tmp_path, text, said):
    with pytest.raises(InvalidMapping, match=said):
        a_mapping(tmp_path, text.replace("\n[fields]", "\n[fields]\n"))


def test_a_missing_mapping_file_is_named(tmp_path):
    with pytest.raises(InvalidMapping, match=r"nowhere\.toml: No such file"):
        load_mapping(tmp_path / "nowhere.toml")


def test_missing_columns_are_named_with_the_nearest_there_are(tmp_path):
    mapping = a_mapping(tmp_path)
    with pytest.raises(InvalidMapping) as caught:
        open_rows(a_file(tmp_path, "id,Date,amuont\n"), mapping.file, mapping.columns(), mapping.needed_columns())
    assert "'date'; did you mean 'Date'?" in str(caught.value)
    assert "'amount'; did you mean 'amuont'?" in str(caught.value)


def test_in_json_a_missing_key_is_null_unless_it_is_needed_or_misspelt(tmp_path):
    line = '{"id": "E", "date": "2026-01-01", "amount": 1, "customer_name": "x"}\n'
    mapping = a_mapping(tmp_path, fields='project = "prj"')
    assert translate(a_file(tmp_path, line, "a.jsonl"), mapping)[0][0].document.project is None
    for fields, said in (('customer = "customerName"', "'customer_name'"), ("", "'amount'")):
        mapping = a_mapping(tmp_path, fields=fields)
        text = line if fields else line.replace("amount", "sum")
        with pytest.raises(InvalidMapping, match=said):
            translate(a_file(tmp_path, text, "a.jsonl"), mapping)
    declared = a_mapping(tmp_path, top='columns = ["customerName"]', fields='customer = "customerName"')
    assert len(translate(a_file(tmp_path, line, "a.jsonl"), declared)[0]) == 1


@pytest.mark.parametrize(
    ("content", "ids"), [('["T1", "T2"]', ["T1", "T2"]), ('[{"id": "T1"}]', ["T1"]), ("null", []), ("[]", [])]
)
def test_tasks_of_a_project_may_be_objects_ids_or_nothing(tmp_path, content, ids):
    mapping = 'document_type = "project"\nsource = "test"\nid = "id"\n[fields]\nname = "id"\ntasks = "t"'
    document = one(tmp_path, mapping, f'{{"id": "P", "t": {content}}}\n', "p.jsonl").document
    assert [task.id for task in document.tasks] == ids


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ('date_format = "DD.MM.YYYY"\n' + EXPENSE, 'date_format: .*"%d.%m.%Y"'),
        (EXPENSE + 'where = { a = "b" }', r"`where` is a key of the whole file; write it above \[fields\]"),
        ('timezone = "Berlin"\n' + EXPENSE, " timezone: no time zone"),
    ],
)
def test_what_is_easily_got_wrong_is_named_with_what_to_write(tmp_path, text, line):
    with pytest.raises(InvalidMapping, match=line):
        a_mapping(tmp_path, text)
