"""CONTRIBUTING.md, done as it says: its files written, its changes made, its tests run in a copy of this checkout."""

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.acceptance.product import REPOSITORY

STEP = re.compile(r"^`(?P<path>[\w./-]+)`:\n\n```(?P<kind>\w+)\n(?P<text>.*?)^```$", re.MULTILINE | re.DOTALL)
LEFT_OUT = shutil.ignore_patterns(".git", ".venv", "var", "*.egg-info", "__pycache__", ".*_cache", ".hypothesis")


def steps(heading: str) -> list[re.Match[str]]:
    """The files and changes that one walk-through names, in order."""
    section = (REPOSITORY / "CONTRIBUTING.md").read_text().split(f"\n## {heading}\n")[1].split("\n## ")[0]
    return list(STEP.finditer(section))


def apply(change: str, path: Path) -> None:
    """Apply the hunks of a diff without line numbers: each must fit exactly once."""
    text = path.read_text()
    for hunk in change.split("@@\n"):
        lines = [line or " " for line in hunk.splitlines()]
        old = "".join(f"{line[1:]}\n" for line in lines if line[0] in " -")
        new = "".join(f"{line[1:]}\n" for line in lines if line[0] in " +")
        assert text.count(old) == 1, f"{path.name}: the walk-through no longer fits here:\n{old}"
        text = text.replace(old, new)
    path.write_text(text)


class Copy:
    """A copy of the checkout in which a developer follows a walk-through."""

    def __init__(self, folder: Path, heading: str) -> None:
        self.folder = folder / "checkout"
        shutil.copytree(REPOSITORY, self.folder, ignore=LEFT_OUT)
        for step in steps(heading):
            path = self.folder / step["path"]
            if step["kind"] == "diff":
                apply(step["text"], path)
            else:
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_text(step["text"])

    def python(self, *arguments: str) -> str:
        """Run Python in the copy, which comes before the installed package; returns what it printed."""
        environment = os.environ | {"PYTHONPATH": str(self.folder), "TIEOUT_DATA_DIR": str(self.folder / "var")}
        for name in ("DATABASE_URL", "AMQP_URL", "TIEOUT_RULES"):
            environment.pop(name, None)
        done = subprocess.run(
            [sys.executable, *arguments], cwd=self.folder, env=environment, capture_output=True, text=True, timeout=300
        )
        assert done.returncode == 0, done.stdout[-6000:] + done.stderr[-6000:]
        return done.stdout

    def tieout(self, *arguments: str) -> list | dict:
        return json.loads(self.python("-c", "import cli; cli.main()", *arguments, "--json"))

    def tests(self, *arguments: str) -> None:
        self.python("-m", "pytest", "-q", "-p", "no:cacheprovider", *arguments)

    def linters(self) -> None:
        self.python("-m", "ruff", "check", ".")
        self.python("-m", "ruff", "format", "--check", ".")
        self.python("-m", "mypy")


@pytest.mark.timeout(600)
def test_a_stage_is_one_file_one_line_and_one_test(tmp_path):
    copy = Copy(tmp_path, "Add a stage")
    copy.tests("tests/unit/actors/test_approve.py", "tests/unit/test_topology.py")
    copy.linters()
    assert [stage["stage"] for stage in copy.tieout("stages")] == [
        "validate",
        "approve",
        "enrich",
        "transform",
        "post",
        "reconcile",
    ]
    copy.tieout("ingest", "examples/timesheet/entries.csv", "--map", "examples/timesheet/mapping.toml")
    trace = copy.tieout("trace", one_record(copy))
    assert "approve" in [step["stage"] for step in trace["steps"]]


def one_record(copy: Copy) -> str:
    """The id of a record that has come to its end."""
    script = "import sqlite3; c = sqlite3.connect('var/tieout.db');"
    script += "print(c.execute(\"select id from records where state = 'reconciled'\").fetchone()[0])"
    return copy.python("-c", script).strip()


@pytest.mark.timeout(600)
def test_a_document_type_is_a_contract_a_name_and_a_sample(tmp_path):
    copy = Copy(tmp_path, "Add a document type")
    copy.tests("tests/wire", "tests/unit/test_topology.py")
    copy.linters()
    assert "assignment.v1" in [contract["document_type"] for contract in copy.tieout("contracts", "list")]
    example = "examples/assignments"
    copy.tieout("ingest", f"{example}/assignments.csv", "--map", f"{example}/mapping.toml")
    [sheet] = copy.tieout("balance")
    assert (sheet["document_type"], sheet["reconciled"]) == ("assignment.v1", 2)


@pytest.mark.timeout(600)
def test_a_connector_is_a_folder_and_passes_the_suite(tmp_path):
    copy = Copy(tmp_path, "Add a connector")
    copy.tests("tests/conformance/connector/test_target.py", "-k", "bureau and sqlite")
    copy.linters()
    assert "bureau" in [target["target"] for target in copy.tieout("target", "list")]
