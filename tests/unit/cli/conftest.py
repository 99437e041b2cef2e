"""Running the command line in this process, each test in a folder and environment of its own."""

import json
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from cli import main

MAPPING = """
document_type = "expense"
source = "travel"
id = "id"

[fields]
date = "date"
amount = "amount"
currency = { constant = "EUR" }
category = "kind"
"""
ROWS = "id,date,amount,kind\nX-1,2025-03-03,12.50,Travel\nX-2,2025-03-04,99.00,Conference\nX-3,2025-03-04,n/a,Travel\n"
RULES = '[mappings.expense_account]\nTravel = "6210"\n'


class CommandLine:
    """`tieout` on a database of its own; every call sees nothing but this environment."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.environment: dict[str, str | None] = {
            "DATABASE_URL": f"sqlite:///{folder / 'tieout.db'}",
            "AMQP_URL": None,
            "CLOUDAMQP_URL": None,
            "REDIS_URL": None,
            "REDISCLOUD_URL": None,
            "TIEOUT_RULES": None,
            "TIEOUT_DATA_DIR": str(folder / "var"),
        }

    def __call__(self, *arguments: str | Path, expect: int = 0) -> Result:
        result = CliRunner().invoke(main, [str(one) for one in arguments], env=self.environment)
        assert result.exit_code == expect, f"{arguments}: {result.exit_code}\n{result.stdout}\n{result.stderr}"
        assert "Traceback" not in result.stderr
        return result

    def json(self, *arguments: str | Path, expect: int = 0) -> Any:
        return json.loads(self(*arguments, "--json", expect=expect).stdout)


@pytest.fixture
def tieout(tmp_path: Path) -> CommandLine:
    return CommandLine(tmp_path)


@pytest.fixture
def ingested(tieout: CommandLine) -> CommandLine:
    """Two expenses accepted, one of them dead for want of a mapping, and one row refused."""
    for name, text in (("map.toml", MAPPING), ("export.csv", ROWS), ("rules.toml", RULES)):
        (tieout.folder / name).write_text(text)
    tieout.environment["TIEOUT_RULES"] = str(tieout.folder / "rules.toml")
    tieout("ingest", tieout.folder / "export.csv", "--map", tieout.folder / "map.toml")
    return tieout
