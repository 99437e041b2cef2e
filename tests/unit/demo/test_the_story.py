"""How the demo's story is told: lines that fit a screen, commands that can be pasted."""

from datetime import UTC, datetime

from commands.demo import COLUMNS_MAX, _Voice
from contracts.money import Money
from ops.causes import Cause
from store.dead_letters import Group

LONG = "/a/folder/whose/name/is/long/enough/to/fill/half/a/line/var/demo"


def test_a_long_command_is_broken_where_the_shell_allows_it(capsys):
    _Voice().command(f"tieout ingest {LONG}/exports/time.csv.gz --map {LONG}/mappings/time_entries.toml")
    lines = capsys.readouterr().out.splitlines()
    assert [line.rstrip("\\").strip().split()[0] for line in lines] == ["$", "--map"]
    assert lines[0].endswith(" \\")


def test_paths_are_told_from_where_one_is(capsys, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    _Voice().command(f"tieout ingest {tmp_path}/var/demo/exports/time.csv")
    assert capsys.readouterr().out == "$ tieout ingest var/demo/exports/time.csv\n"


def test_causes_fit_the_line(capsys):
    now = datetime.now(UTC)
    why = "no rate card is in force for worker 'E-1035', role 'engineer', project 'P-405' on <date>, or any other day"
    group = Group(
        code="RATE_MISSING",
        category="business",
        owner="pmo",
        cause=f"RATE_MISSING: {why}",
        stage="enrich",
        document_type="time_entry.v1",
        count=12,
        amount=Money.of_minor(123_456_789, "EUR"),
        oldest=now,
        newest=now,
    )
    _Voice().causes([Cause(groups=[group])])
    lines = capsys.readouterr().out.splitlines()
    assert max(len(line) for line in lines) <= COLUMNS_MAX
    assert "1,234,567.89 EUR" in lines[1]
