"""`tieout demo`: the main job on a believable month, from start to tied out."""

import pytest

from tests.acceptance.product import Product

pytestmark = pytest.mark.timeout(600)


@pytest.fixture(scope="module")
def demo(tmp_path_factory):
    """One run of the demo, looked at by every test."""
    product = Product(tmp_path_factory.mktemp("demo"))
    return product, product.json("demo")


def test_the_closing_balance_holds_in_count_and_in_money(demo):
    _, sheets = demo
    assert {sheet["document_type"] for sheet in sheets} >= {"time_entry.v1", "expense.v1", "project.v1", "worker.v1"}
    assert all(sheet["balanced"] and sheet["stranded"] == 0 for sheet in sheets)
    assert sum(sheet["in_flight"] + sheet["in_doubt"] for sheet in sheets) == 0


def test_most_of_the_month_is_reconciled_and_the_planted_faults_wait_for_a_person(demo):
    _, sheets = demo
    entries = [sheet for sheet in sheets if sheet["document_type"] == "time_entry.v1"]
    assert sum(sheet["reconciled"] for sheet in entries) > 2_500
    assert sum(sheet["dead"] for sheet in entries) > 0
    assert sum(sheet["duplicate"] + sheet["superseded"] for sheet in entries) > 0


def test_two_currencies_are_kept_apart(demo):
    _, sheets = demo
    currencies = {sheet["currency"] for sheet in sheets if sheet["document_type"] == "expense.v1"}
    assert {"EUR", "CHF"} <= currencies


def test_its_data_stays_and_can_be_looked_at(demo):
    product, sheets = demo
    database = product.folder / "var" / "demo" / "tieout.db"
    assert database.exists()
    product.environment["DATABASE_URL"] = f"sqlite:///{database}"
    assert product.json("balance") == sheets
    groups = product.json("dead", "groups")
    assert {group["code"] for group in groups} >= {"RATE_MISSING", "PERIOD_CLOSED"}


def test_on_a_terminal_it_tells_the_story(tmp_path):
    story = Product(tmp_path).run("demo").stdout
    assert "tieout map set" in story
    assert "tie" in story
    assert "\x1b[" not in story
