"""What holds for the repository as a whole, so that nobody has to remember it."""

import re
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest
from importlinter.cli import lint_imports
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).parents[2]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())

#: Not ours, or not kept: the same that .gitignore names.
PASSED_OVER = {"var", "build", "dist", "__pycache__"}
CODE = {".py", ".sh", ".html", ".css", ".js"}
LINES_OF_CODE_MAX = 350

#: Names that say nothing about what is inside, and so gather everything.
DRAWERS = {"utils", "util", "common", "helpers", "helper", "models", "misc"}

#: Folders whose first name is some machine's own; the pattern is written so that it does not find itself.
MACHINE_PATH = re.compile(
    r"(?<![\w.$}/-])/(?:home/(?!tieout\b)\w|Users/\w|root[/]|workspace[/]|work[/]|builds[/]|mnt[/])"
)


def tree(folder: Path = ROOT) -> Iterator[Path]:
    """Every file of ours. Hidden folders are tools' own, except what runs in continuous integration."""
    for path in sorted(folder.iterdir()):
        if path.name in PASSED_OVER or path.name.endswith(".egg-info"):
            continue
        if path.is_dir():
            if not path.name.startswith(".") or path.name == ".ci":
                yield from tree(path)
        elif path.suffix != ".pyc":
            yield path


def name_of(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


def packages() -> set[str]:
    """The packages that are shipped."""
    return {path.parent.name for path in ROOT.glob("*/__init__.py")} - {"tests", "benchmarks"}


def locked() -> dict[str, str]:
    """Versions by package, as requirements.lock has them."""
    found = re.findall(r"^([A-Za-z0-9._-]+)==([^ ;\\]+)", (ROOT / "requirements.lock").read_text(), re.MULTILINE)
    return {canonicalize_name(name): version for name, version in found}


def test_files_of_code_fit_the_reader():
    code = [path for path in tree() if path.suffix in CODE or path.parent.name == "scripts"]
    lines = {
        name_of(path): len(path.read_text().splitlines())
        for path in code
        if "tests" not in path.parts and "migrations" not in path.parts
    }
    assert len(lines) > 20
    assert {name: count for name, count in lines.items() if count >= LINES_OF_CODE_MAX} == {}


def test_no_file_or_folder_is_a_drawer():
    names = {part for path in tree() for part in path.relative_to(ROOT).with_suffix("").parts}
    assert names & DRAWERS == set()


def test_no_file_knows_the_machine_it_was_written_on():
    found = []
    for path in tree():
        try:
            text = path.read_text()
        except UnicodeDecodeError:  # a sample in another encoding, or compressed
            continue
        found += [f"{name_of(path)}: {match.group()}" for match in MACHINE_PATH.finditer(text)]
    assert found == []


def test_every_package_is_shipped_and_held_to_the_direction_of_imports():
    patterns = PROJECT["tool"]["setuptools"]["packages"]["find"]["include"]
    assert packages() <= {pattern.removesuffix("*") for pattern in patterns}
    assert packages() == set(PROJECT["tool"]["importlinter"]["root_packages"])
    layers = PROJECT["tool"]["importlinter"]["contracts"][0]["layers"]
    assert {name.strip() for layer in layers for name in layer.split("|")} == packages()


def test_every_file_beside_the_code_is_shipped_too():
    patterns = PROJECT["tool"]["setuptools"]["package-data"]["*"]
    beside = [path for name in packages() for path in tree(ROOT / name) if path.suffix != ".py"]
    assert [name_of(path) for path in beside if not any(path.match(pattern) for pattern in patterns)] == []


def test_imports_point_one_way(monkeypatch, capsys):
    monkeypatch.chdir(ROOT)
    status = lint_imports(config_filename="pyproject.toml", no_cache=True)
    assert status == 0, capsys.readouterr().out


@pytest.mark.parametrize(
    "requirement", [*PROJECT["project"]["dependencies"], *PROJECT["project"]["optional-dependencies"]["dev"]]
)
def test_the_lock_file_has_what_pyproject_asks_for(requirement):
    wanted = Requirement(requirement)
    version = locked().get(canonicalize_name(wanted.name))
    assert version is not None, f"{wanted.name} is not in requirements.lock: run make lock"
    assert wanted.specifier.contains(version), f"requirements.lock has {wanted.name} {version}: run make lock"


def test_every_package_in_the_lock_file_has_its_hashes_and_no_index_of_someones_own():
    text = (ROOT / "requirements.lock").read_text()
    entries = re.split(r"^(?=[A-Za-z0-9])", text, flags=re.MULTILINE)[1:]
    assert len(entries) == len(locked()) > 20
    assert [entry.split("==")[0] for entry in entries if "--hash=sha256:" not in entry] == []
    assert "://" not in text
    assert "index-url" not in text


def test_the_changelog_keeps_its_format():
    lines = (ROOT / "CHANGELOG.md").read_text().splitlines()
    assert lines[0] == "# Changelog"
    releases = [line for line in lines if line.startswith("## ")]
    assert releases[0] == "## [Unreleased]"
    assert all(re.fullmatch(r"## \[\d+\.\d+\.\d+\] - \d{4}-\d\d-\d\d", line) for line in releases[1:])
    kinds = {line.removeprefix("### ") for line in lines if line.startswith("### ")}
    assert kinds
    assert kinds <= {"Added", "Changed", "Deprecated", "Removed", "Fixed", "Security"}
