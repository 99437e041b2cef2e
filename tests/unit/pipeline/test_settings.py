import pytest

from pipeline.settings import InvalidSetting, read_settings


def test_without_any_variable_everything_is_embedded_below_var():
    settings = read_settings({})
    assert settings.embedded
    assert settings.database_url == "sqlite+aiosqlite:///var/tieout.db"


def test_a_paas_url_is_given_its_driver():
    assert read_settings({"DATABASE_URL": "postgres://u:p@h/d"}).database_url == "postgresql+psycopg://u:p@h/d"


def test_the_data_dir_holds_the_database():
    assert read_settings({"TIEOUT_DATA_DIR": "/srv/t"}).database_url == "sqlite+aiosqlite:////srv/t/tieout.db"


def test_an_add_on_s_variable_stands_in():
    assert read_settings({"CLOUDAMQP_URL": "amqp://h"}).amqp_url == "amqp://h"


def test_an_empty_variable_counts_as_unset():
    assert read_settings({"AMQP_URL": ""}).embedded


def test_a_wrong_number_names_its_variable():
    with pytest.raises(InvalidSetting, match="TIEOUT_LIVE_THREADS='many': expected a whole number"):
        read_settings({"TIEOUT_LIVE_THREADS": "many"})


def test_an_unknown_database_is_refused_without_showing_its_password():
    with pytest.raises(InvalidSetting, match="expected sqlite") as error:
        read_settings({"DATABASE_URL": "mysql://u:secret@h/d"})
    assert "secret" not in str(error.value)


def test_a_prefix_that_no_queue_could_be_named_by_is_refused():
    with pytest.raises(InvalidSetting, match="TIEOUT_PREFIX='op trial\\*'"):
        read_settings({"TIEOUT_PREFIX": "op trial*"})
