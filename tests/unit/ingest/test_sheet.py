from ops.ingest.sheet import FileSummary, Sheet, Summary


def summary(*, error: str | None = None, **counts: int) -> Summary:
    return Summary(files=[FileSummary(path="a.csv", sheet=Sheet(**counts), error=error)])


def test_an_ingest_holds_when_something_was_accepted():
    assert summary(rows=3, read=3, accepted=2, rejected=1).holds


def test_an_ingest_in_which_everything_wanted_was_refused_does_not():
    assert not summary(rows=3, read=3, rejected=3).holds


def test_an_ingest_that_wanted_nothing_holds():
    assert summary(rows=3, filtered=3).holds


def test_an_ingest_that_could_not_read_a_file_to_its_end_does_not():
    assert not summary(rows=3, read=3, accepted=3, error="truncated").holds
