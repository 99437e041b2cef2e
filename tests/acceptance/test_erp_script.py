"""scripts/erp.py prepares a Tryton once, whoever asks and however often that is cut short, and serves a copy of it."""

import os
import signal
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx
import psycopg
import pytest

import tryton_cache
from instances import CannotStart, free_ports
from tests.erp.calls import Caller
from tryton import Tryton, tryton
from tryton_cache import SERIES, installed_tryton, kept
from tryton_databases import own_database
from tryton_postgres import drop_database

ROOT = Path(__file__).parents[2]
ERP = [sys.executable, str(ROOT / "scripts/erp.py")]


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty cache."""
    monkeypatch.setenv("TIEOUT_CACHE_DIR", str(tmp_path / "cache"))
    return tmp_path / "cache"


@pytest.fixture
def cache_without_database(prepared_erp: None, request: pytest.FixtureRequest) -> Path:
    """A cache in which Tryton is installed and no database is prepared."""
    environment = installed_tryton(SERIES[0]).parents[1]
    cache: Path = request.getfixturevalue("cache")
    (cache / "erp").mkdir(parents=True)
    (cache / "erp" / environment.name).symlink_to(environment)
    return cache


# Preparing


def test_of_two_who_prepare_at_once_one_builds_and_the_other_waits(cache):
    built: list[Path] = []
    begun, both = threading.Event(), threading.Event()

    def build(folder: Path) -> None:
        built.append(folder)
        begun.set()
        assert both.wait(60)
        (folder / "done").touch()

    with ThreadPoolExecutor() as pool, pytest.MonkeyPatch.context() as patch:
        patch.setattr(tryton_cache, "say", lambda text: both.set())  # the second one says that it waits
        first = pool.submit(kept, "thing", build)
        assert begun.wait(60)
        second = pool.submit(kept, "thing", build)
        assert first.result() == second.result() == cache / "erp/thing"
    assert len(built) == 1
    assert (cache / "erp/thing/done").exists()


def test_what_could_not_be_built_is_built_the_next_time_and_leaves_nothing_behind(cache):
    def fail(folder: Path) -> None:
        (folder / "half").touch()
        raise CannotStart("no room")

    with pytest.raises(CannotStart, match="no room"):
        kept("thing", fail)
    assert [path.name for path in (cache / "erp").iterdir()] == ["thing.lock"]
    assert kept("thing", lambda folder: (folder / "whole").touch()) == cache / "erp/thing"
    assert [path.name for path in (cache / "erp/thing").iterdir()] == ["whole"]


@pytest.mark.thorough
@pytest.mark.timeout(600)
def test_a_preparation_that_was_cut_short_is_done_again_by_one_of_two_who_come_at_once(cache_without_database):
    cache = cache_without_database / "erp"
    with prepare(until="tables of module res") as stopped:
        stopped.terminate()
    assert (stopped.returncode, unfinished(cache)) == (128 + signal.SIGTERM, 0)
    with prepare(until="tables of module party") as killed:
        killed.kill()
    assert (killed.returncode, unfinished(cache)) == (-signal.SIGKILL, 1)

    both = [prepare(), prepare()]
    said = [process.communicate()[1] for process in both]
    assert [process.returncode for process in both] == [0, 0], said
    assert sorted("Preparing" in text for text in said) == [False, True]
    assert unfinished(cache) == 0
    with tryton() as server:
        assert Caller(server)("party.party.search_count", [["identifiers.code", "like", "HR-%"]]) == 5


def prepare(until: str = "") -> "subprocess.Popen[str]":
    """Start preparing; returns when it tells that it is there."""
    process = subprocess.Popen([*ERP, "prepare"], stderr=subprocess.PIPE, text=True)
    assert process.stderr is not None
    assert not until or any(until in line for line in process.stderr)
    return process


def unfinished(cache: Path) -> int:
    return sum(".building-" in path.name for path in cache.iterdir())


# On the command line


def run_erp(*options: str | Path) -> tuple["subprocess.Popen[str]", str]:
    """Start a server as a person would; returns the process and the URL to call."""
    process = subprocess.Popen(
        [*ERP, "run", *map(str, options)], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    lines = [process.stdout.readline() for _ in range(4)]
    assert lines[3].startswith("stop"), (lines, process.communicate())
    return process, lines[0].split()[-1]


def login(url: str) -> dict[str, Any]:
    call = {"id": 0, "method": "common.db.login", "params": ["admin", {"password": "admin_pw_123"}]}
    return dict(httpx.post(url, json=call, trust_env=False).raise_for_status().json())


@pytest.mark.parametrize("how", [signal.SIGTERM, signal.SIGINT])
def test_a_server_for_trying_says_where_it_is_and_ends_when_told_leaving_nothing(
    prepared_erp, tmp_path, monkeypatch, how
):
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    process, url = run_erp()
    assert login(url)["result"]
    process.send_signal(how)
    assert process.wait(60) == 0
    process.communicate()
    with pytest.raises(httpx.ConnectError):
        login(url)
    assert list(tmp_path.iterdir()) == []


def test_what_is_kept_is_there_the_next_time(prepared_erp, tmp_path):
    with tryton(keep=tmp_path / "firm") as server:
        (party,) = Caller(server)("party.party.create", [{"name": "Acme", "code": "CRM-9001"}])
    with tryton(keep=tmp_path / "firm") as server:
        assert Caller(server)("party.party.search", [["code", "=", "CRM-9001"]], 0, None, None) == [party]
    with pytest.raises(CannotStart, match=r"keeps a database of Tryton 8\.0: say --series 8\.0, or another folder"):
        own_database("8.2", keep=tmp_path / "firm").__enter__()


def test_a_database_on_postgresql_is_dropped_in_the_end_unless_it_is_kept(
    postgres_server, postgres_erp_template, tmp_path
):
    with tryton(postgres=postgres_server, template=postgres_erp_template) as server:
        assert server.database in databases(postgres_server)
    assert server.database not in databases(postgres_server)
    with tryton(postgres=postgres_server, keep=tmp_path) as first:
        pass
    try:
        with tryton(postgres=postgres_server, keep=tmp_path) as second:
            assert first.database == second.database
    finally:
        drop_database(postgres_server, first.database)


def databases(server: str) -> set[str]:
    with psycopg.connect(server) as connection:
        return {name for (name,) in connection.execute("select datname from pg_database")}


def test_a_port_that_is_taken_is_one_clear_error(erp: Tryton):
    done = subprocess.run([*ERP, "run", "--port", str(erp.port)], capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == f"erp: port {erp.port} is taken: choose another one, or none for one that is free\n"


def test_without_a_network_it_says_so_in_pips_own_words(cache):
    (port,) = free_ports(1)
    nowhere = {"PIP_INDEX_URL": f"http://127.0.0.1:{port}/", "PIP_RETRIES": "0", "PIP_CONFIG_FILE": os.devnull}
    nowhere |= {"UV_DEFAULT_INDEX": f"http://127.0.0.1:{port}/", "UV_HTTP_RETRIES": "0", "PIP_FIND_LINKS": ""}
    done = subprocess.run([*ERP, "prepare"], env=os.environ | nowhere, capture_output=True, text=True)
    assert done.returncode == 2
    assert "erp: installing Tryton 8.0 failed:" in done.stderr
    assert "Is there a network? Behind a mirror, set PIP_INDEX_URL." in done.stderr
    assert "Traceback" not in done.stderr
    assert [path.suffix for path in (cache / "erp").iterdir()] == [".lock"]


def test_a_postgresql_that_does_not_answer_is_one_clear_error(prepared_erp):
    (port,) = free_ports(1)
    url = f"postgresql://somebody:secret@127.0.0.1:{port}/postgres"
    done = subprocess.run([*ERP, "run", "--postgres", url], capture_output=True, text=True)
    assert done.returncode == 2
    assert done.stderr.startswith("erp: PostgreSQL can't be used: ")
    assert "secret" not in done.stderr
    assert "Traceback" not in done.stderr
