"""Files to rows: every shape a real export has, and every way it can be broken."""

import csv
import gzip
import io
import tracemalloc
from contextlib import closing

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ops.ingest.layout import InvalidMapping
from ops.ingest.lines import Lines, UnreadableFile, line_bytes_max
from tests.unit.ingest.files import EXPENSE, a_file, a_mapping, expenses, opened, read, translate

cells = st.text(st.characters(exclude_categories=("Cs",), exclude_characters="\0"), max_size=12)
in_one_folder = settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)


@in_one_folder
@given(
    rows=st.lists(st.tuples(cells, cells, cells), max_size=8),
    delimiter=st.sampled_from(",;\t|"),
    line_end=st.sampled_from(["\n", "\r\n"]),
    encoding=st.sampled_from(["utf-8", "utf-8-sig", "utf-16"]),
    name=st.sampled_from(["a.csv", "a.csv.gz", "a.txt"]),
)
def test_whatever_is_written_is_read_back(tmp_path, rows, delimiter, line_end, encoding, name):
    text = io.StringIO()
    writer = csv.writer(text, delimiter=delimiter, lineterminator=line_end, quoting=csv.QUOTE_ALL)
    writer.writerows([("id", "date", "amount"), *rows])
    got = read(a_file(tmp_path, text.getvalue().encode(encoding), name), a_mapping(tmp_path))
    assert [tuple(row.cells) for row in got if row.fault is None] == [row for row in rows if any(row)]
    assert not any(row.fault for row in got)


@in_one_folder
@given(content=st.binary(max_size=400), name=st.sampled_from(["a.csv", "a.csv.gz", "a.jsonl"]))
def test_no_content_whatever_is_an_unplanned_error(tmp_path, content, name):
    head = b'{"id": "1", "date": "2026-01-01", "amount": 1}\n' if name.endswith("jsonl") else b"id,date,amount\n"
    mapped, refused, _ = translate(a_file(tmp_path, head + content, name), a_mapping(tmp_path))
    assert all(reason for _, _, reason in refused)
    assert all(each.document.amount is not None for each in mapped)


@in_one_folder
@given(content=st.binary(max_size=400), cut=st.integers(0, 60))
def test_a_file_of_noise_is_read_or_refused_in_one_line(tmp_path, content, cut):
    for name, raw in (("a.csv", content), ("a.csv.gz", gzip.compress(content)[: -cut or None])):
        path = tmp_path / name
        path.write_bytes(raw)
        try:
            translate(path, a_mapping(tmp_path))
        except (UnreadableFile, InvalidMapping) as error:
            assert str(path) in str(error)  # noqa: PT017


def test_rows_are_numbered_and_know_their_physical_line(tmp_path):
    content = 'id,date,amount\n\n1,"a\nb",1\n\n\n2,x,2\n,,\n  \n\n3,x,3'
    rows = read(a_file(tmp_path, content), a_mapping(tmp_path))
    assert [(row.number, row.line, row.cells[0]) for row in rows] == [(1, 3, "1"), (2, 7, "2"), (3, 11, "3")]


@pytest.mark.parametrize("line_end", ["\n", "\r\n", "\r"])
def test_any_line_end_will_do(tmp_path, line_end):
    content = expenses(3).replace("\n", line_end)
    assert [row.cells[0] for row in read(a_file(tmp_path, content), a_mapping(tmp_path))] == ["E-1", "E-2", "E-3"]


def test_a_line_end_cut_in_two_by_a_block_is_one_line_end(tmp_path):
    content = b"id,date,amount\r\n" + b"1,2,3\r\n" * 100_000
    with closing(Lines(a_file(tmp_path, content))) as lines:
        assert sum(1 for _ in lines) == 100_001


def test_the_delimiter_is_found_and_excels_own_line_skipped(tmp_path):
    for content in ('"id, of it";id;date;amount\nx;1;2;3\n', "sep=|\nid|date|amount\n1|2|3\n"):
        rows = read(a_file(tmp_path, content), a_mapping(tmp_path))
        assert "1" in rows[0].cells


def test_lines_before_the_header_are_skipped_and_a_header_may_be_given(tmp_path):
    content = 'Report of today\nby somebody, for "nobody\n' + expenses(2)
    assert len(read(a_file(tmp_path, content), a_mapping(tmp_path, top="skip_lines = 2"))) == 2
    mapping = a_mapping(tmp_path, top='columns = ["id", "date", "amount", "note"]')
    assert len(read(a_file(tmp_path, expenses(2).partition("\n")[2]), mapping)) == 2


def test_a_column_that_occurs_twice_is_named_by_its_number(tmp_path):
    content = "id,date,amount,amount,\n1,2026-01-01,1,2,3\n"
    with pytest.raises(InvalidMapping, match="amount#1 or amount#2"):
        read(a_file(tmp_path, content), a_mapping(tmp_path))
    text = EXPENSE.replace('"amount"', '"amount#2"') + 'note = "#5"'
    mapped, _, _ = translate(a_file(tmp_path, content), a_mapping(tmp_path, text))
    assert (str(mapped[0].document.amount), mapped[0].document.note) == ("2.00", "3")


def test_short_and_long_rows_are_refused_and_empty_cells_at_the_end_are_not(tmp_path):
    content = "id,date,amount\n1,2026-01-01,1\n2,2026-01-01\n3,2026-01-01,1,1\n4,2026-01-01,1,,\n"
    mapped, refused, _ = translate(a_file(tmp_path, content), a_mapping(tmp_path))
    assert [each.subject for each in mapped] == ["1", "4"]
    assert [(row, reason) for row, _, reason in refused] == [
        (2, "2 cells where the header has 3"),
        (3, "4 cells where the header has 3"),
    ]


@pytest.mark.parametrize("place", [2, 500, 999])
def test_a_quote_that_is_never_closed_costs_its_own_row_only(tmp_path, place):
    lines = expenses(1000).splitlines(keepends=True)
    lines[place] = lines[place].replace("note", '"note')
    mapped, refused, _ = translate(a_file(tmp_path, "".join(lines)), a_mapping(tmp_path))
    assert [row for row, _, _ in refused] == [place]
    assert "quote" in refused[0][2]
    assert len(mapped) == 999


def test_two_stray_quotes_do_not_swallow_the_rows_between_them(tmp_path):
    lines = expenses(100).splitlines(keepends=True)
    for place in (20, 60):
        lines[place] = lines[place].replace("note", '"note')
    mapped, refused, _ = translate(a_file(tmp_path, "".join(lines)), a_mapping(tmp_path))
    assert [row for row, _, _ in refused] == [20, 60]
    assert len(mapped) == 98


def test_a_quote_inside_a_quoted_cell_is_refused_rather_than_guessed(tmp_path):
    content = 'id,date,amount,note\n1,2026-01-01,1,"5" pipe"\n2,2026-01-01,1,"5"" pipe"\n'
    mapped, refused, _ = translate(a_file(tmp_path, content), a_mapping(tmp_path, fields='note = "note"'))
    assert [each.document.note for each in mapped] == ['5" pipe']
    assert "written twice" in refused[0][2]


@pytest.mark.parametrize("where", ["line", "cell", "quoted"])
def test_a_line_of_ten_megabytes_costs_its_own_row_only_and_little_memory(tmp_path, where):
    filling = {
        "line": "x" * 10_000_000,
        "cell": "1,2026-01-01,1," + "x" * 200_000,
        "quoted": '1,2026-01-01,1,"' + "ä" * 5_000_000,
    }
    lines = expenses(2000).splitlines(keepends=True)
    lines[700] = filling[where] + "\n"
    path, mapping = a_file(tmp_path, "".join(lines), "big.csv.gz"), a_mapping(tmp_path)
    tracemalloc.start()
    with opened(path, mapping) as rows:
        seen = [(row.number, row.fault) for row in rows if row.fault or row.number in (699, 701, 2000)]
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert [number for number, _ in seen] == [699, 700, 701, 2000]
    assert [bool(fault) for _, fault in seen] == [False, True, False, False]
    assert peak < 16 * line_bytes_max


def test_a_file_of_many_rows_is_read_in_constant_memory(tmp_path):
    mapping = a_mapping(tmp_path)
    peaks = []
    for count in (2_000, 40_000):
        path = a_file(tmp_path, expenses(count), f"{count}.csv.gz")
        tracemalloc.start()
        with opened(path, mapping) as rows:
            assert sum(1 for _ in rows) == count
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
    assert peaks[1] < peaks[0] + 2_000_000


def test_bytes_of_another_encoding_cost_their_row_and_name_the_column(tmp_path):
    content = "id,date,amount,note\n1,2026-01-01,1,Köln\n2,2026-01-01,1,Bonn\n".encode("cp1252")
    mapped, refused, _ = translate(a_file(tmp_path, content), a_mapping(tmp_path))
    assert [each.subject for each in mapped] == ["2"]
    assert refused[0][:2] == (1, "note")
    mapping = a_mapping(tmp_path, top='encoding = "cp1252"', fields='note = "note"')
    assert translate(a_file(tmp_path, content), mapping)[0][0].document.note == "Köln"


def test_a_damaged_row_is_only_left_out_by_the_filter_if_what_the_filter_sees_is_sound(tmp_path):
    content = b"id,date,amount,note,state\n" + b"".join(
        b"%d,2026-01-01,1,%s,%s\n" % (number, note, state)
        for number, (note, state) in enumerate(
            [(b"\xff", b"no"), (b"\xff", b"yes"), (b"\xff", b"n\xff"), (b"a\0", b"yes"), (b"a", b"yes")], 1
        )
    )
    mapping = a_mapping(tmp_path, top='where = { state = "yes" }')
    mapped, refused, filtered = translate(a_file(tmp_path, content), mapping)
    assert [(row, column) for row, column, _ in refused] == [(2, "note"), (3, "state"), (4, "note")]
    assert "NUL" in refused[2][2]
    assert ([each.subject for each in mapped], filtered) == (["5"], 1)


def test_a_truncated_gzip_gives_every_whole_row_and_says_that_it_is_broken(tmp_path):
    whole = a_file(tmp_path, expenses(20_000), "whole.csv.gz")
    path = tmp_path / "cut.csv.gz"
    path.write_bytes(whole.read_bytes()[: whole.stat().st_size // 2])
    mapping = a_mapping(tmp_path)
    with opened(path, mapping) as rows:
        got = list(rows)
    assert "truncated" in str(rows.lines.broken)
    assert 1000 < len(got) < 20_000
    assert [row.number for row in got if row.fault] in ([], [len(got)])
    assert [list(row.cells) for row in got[:-1]] == [list(row.cells) for row in read(whole, mapping)[: len(got) - 1]]


def test_the_row_a_file_breaks_off_in_is_never_taken_for_a_whole_one(tmp_path):
    content = "id,date,amount\n1,2026-01-01,1.50\n2,2026-01-01,123456.50\n"
    raw = io.BytesIO()
    with gzip.GzipFile(fileobj=raw, mode="wb", compresslevel=0) as file:
        file.write(content.encode())
    path = tmp_path / "cut.csv.gz"
    path.write_bytes(raw.getvalue()[: raw.getvalue().index(b"3456.50")])
    mapped, refused, _ = translate(path, a_mapping(tmp_path))
    assert [each.subject for each in mapped] == ["1"]
    assert refused == [(2, "", "the file breaks off in this row")]


def test_a_gzip_damaged_in_the_middle_is_broken_and_never_a_crash(tmp_path):
    raw = bytearray(gzip.compress(expenses(20_000).encode()))
    for at in range(len(raw) // 2, len(raw) // 2 + 50):
        raw[at] ^= 0xFF
    path = tmp_path / "damaged.csv.gz"
    path.write_bytes(bytes(raw))
    mapping = a_mapping(tmp_path)
    with opened(path, mapping) as rows:
        assert 0 < len(list(rows)) <= 20_001
    assert "gzip" in str(rows.lines.broken)


def test_gzip_members_one_after_the_other_are_one_file(tmp_path):
    head, rows = gzip.compress(b"id,date,amount\n"), gzip.compress(b"1,2026-01-01,1\n")
    path = tmp_path / "joined.csv.gz"
    path.write_bytes(head + rows + rows + b"\0" * 8)
    assert len(read(path, a_mapping(tmp_path))) == 2


@pytest.mark.parametrize(
    ("content", "name", "said"),
    [
        (b"", "a.csv", "empty"),
        (b"\n\n", "a.csv", "empty"),
        (b"", "a.csv.gz", "empty"),
        (b'[{"id": 1}]', "a.csv", "JSON"),
        (b'[{"id": 1}]', "a.json", "one object per line"),
        ("id,date,amount,größe\n".encode("cp1252"), "a.csv", "encoding"),
        (b'"id,date\n', "a.csv", "header can't be read"),
        (b"x" * 3_000_000, "a.csv", "first line is longer"),
        (b"PK\x03\x04\x14\x00\x06\x00", "a.xlsx", "Excel"),
    ],
)
def test_what_can_not_be_read_at_all_is_one_clear_line(tmp_path, content, name, said):
    with pytest.raises((UnreadableFile, InvalidMapping)) as caught:
        read(a_file(tmp_path, content, name), a_mapping(tmp_path))
    assert said in str(caught.value)
    assert len(str(caught.value)) < 500


def test_files_that_are_not_there_or_not_files_are_named(tmp_path):
    for path in (tmp_path / "nowhere.csv", tmp_path):
        with pytest.raises(UnreadableFile, match=str(path)):
            read(path, a_mapping(tmp_path))


def test_an_encoding_that_does_not_exist_is_named(tmp_path):
    for name in ("utf-9", "base64"):
        with pytest.raises(UnreadableFile, match=name):
            read(a_file(tmp_path, "id\n"), a_mapping(tmp_path, top=f'encoding = "{name}"'))


def test_broken_json_lines_cost_their_own_rows_only(tmp_path):
    good = '{"id": "E%d", "date": "2026-01-01", "amount": 1.10}'
    bad = ["{", "[1]", '"x"', "null", '{"id": "\xff"}', "[" * 100_000, '{"a": ' + "9" * 2_000_000 + "}", "nonsense"]
    lines = [good % 0, *bad, "", good % 1]
    content = "\n".join(lines).encode("latin-1")
    mapped, refused, _ = translate(a_file(tmp_path, content, "a.jsonl"), a_mapping(tmp_path))
    assert [each.subject for each in mapped] == ["E0", "E1"]
    assert [row for row, _, _ in refused] == list(range(2, 2 + len(bad)))
    assert all(len(reason) < 200 for _, _, reason in refused)


def test_json_lines_are_recognised_by_name_or_by_their_first_bytes(tmp_path):
    line = '{"id": "E", "date": "2026-01-01", "amount": 1}\n'
    for name, encoding in (("a.jsonl", "utf-8"), ("a.ndjson.gz", "utf-8"), ("a.txt", "utf-8-sig"), ("b.txt", "utf-16")):
        mapped, _, _ = translate(a_file(tmp_path, line.encode(encoding), name), a_mapping(tmp_path))
        assert len(mapped) == 1


def test_progress_is_measured_in_bytes_of_the_file_itself(tmp_path):
    path = a_file(tmp_path, expenses(50_000), "a.csv.gz")
    mapping = a_mapping(tmp_path)
    with opened(path, mapping) as rows:
        places = [rows.lines.bytes_read for _ in rows]
        assert places == sorted(places)
        assert places[0] < places[-1] == rows.lines.bytes_total == path.stat().st_size
