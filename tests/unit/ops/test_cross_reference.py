import pytest

from ops.cross_reference import InvalidMappings, check_mapping, read_mappings


@pytest.mark.parametrize(
    ("key", "value", "why"),
    [
        ("EUR/CHF", "abc", "expected a number above 0"),
        ("EUR/CHF", "0,95", "expected a number above 0"),
        ("EUR/CHF", "-1", "expected a number above 0"),
        ("EURCHF", "0.95", "expected two currencies such as CHF/EUR"),
        ("EUR/QQQ", "0.95", "'QQQ' is not an ISO 4217 currency"),
    ],
)
def test_an_exchange_rate_that_no_record_could_use_is_refused(key, value, why):
    with pytest.raises(InvalidMappings, match=why):
        check_mapping("exchange_rate", key, value)


def test_an_identity_of_something_that_has_none_is_refused_with_the_nearest_name():
    with pytest.raises(InvalidMappings, match="did you mean worker:kantata"):
        check_mapping("wurker:kantata", "u1", "E-1")


@pytest.mark.parametrize(
    ("kind", "key", "value"),
    [("exchange_rate", "EUR/CHF", "0.95"), ("worker:psa", "u1", "E-1"), ("expense_account", "*", "6200")],
)
def test_mappings_that_can_be_used_pass(kind, key, value):
    check_mapping(kind, key, value)


def test_a_file_with_one_bad_rate_is_refused_whole_and_names_the_line(tmp_path):
    path = tmp_path / "rates.csv"
    path.write_text('kind,key,value\nexchange_rate,EUR/CHF,0.95\nexchange_rate,EUR/USD,"1,05"\n')
    with pytest.raises(InvalidMappings, match=r"rates.csv, line 3: .*'1,05'"):
        read_mappings(path)
