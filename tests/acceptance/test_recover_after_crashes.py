"""Embedded: killed at any point of a record's way and started again, every record is in the target exactly once."""

import asyncio
import os
import signal
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest
from sqlalchemy import func, select

from actors import STAGES
from ops.bootstrap import open_engine
from ops.reconciliation import tie_out
from pipeline.states import RECONCILED
from store.tables import dead_letters, records
from tests.acceptance.declarations import FINAL
from tests.acceptance.dying import settings_for
from tests.acceptance.product import REPOSITORY
from tests.acceptance.test_recover import COLUMNS

NAMES = [stage.name for stage in STAGES]
RECORDS = 8

POINTS = [
    "before the publishing of what was accepted",
    *(f"{when} the commit of {stage}" for stage in NAMES for when in ("before", "after")),
    *(f"{when} the publishing to {stage}" for stage in NAMES[1:] for when in ("before", "after")),
    *(f"before the acknowledgement of {stage}" for stage in NAMES),
    *(f"{when} the {what}" for what in ("intend", "call", "answer") for when in ("before", "after")),
]


def write_files(file: Path) -> None:
    for part in (1, 2):
        lines = [
            f"declaration {number},n {number},{FINAL[0]},2018-03-01T00:00:00.000+01:00,ROLE,{100 + number},budget 1,"
            f"permit {number},budget 2,100.0,unit 1,project 1,UNKNOWN,UNKNOWN,st_{number}"
            for number in range(RECORDS)
            if number % 2 == part - 1
        ]
        file.with_suffix(f".{part}.csv").write_text("\n".join([COLUMNS, *lines]) + "\n")


@pytest.mark.parametrize("point", POINTS)
async def test_killed_there_and_started_again_everything_is_reconciled_once(
    migrated_sqlite_url: str, tmp_path: Path, point: str
) -> None:
    file = tmp_path / "declarations"
    write_files(file)
    program = [sys.executable, "-m", "tests.acceptance.dying", migrated_sqlite_url, str(file), point]
    environment = {name: os.environ[name] for name in ("PATH", "HOME") if name in os.environ}
    done = await asyncio.to_thread(
        subprocess.run, program, cwd=REPOSITORY, env=environment, capture_output=True, text=True, timeout=60
    )
    assert done.returncode == -signal.SIGKILL, f"it never came to the point:\n{done.stderr[-3000:]}"
    async with open_engine(settings_for(migrated_sqlite_url), work=True) as engine:
        await engine.drain()
        async with engine.db.connect() as connection:
            states = Counter(await connection.scalars(select(records.c.state)))
            assert await connection.scalar(select(func.count()).select_from(dead_letters)) == 0
        assert set(states) == {RECONCILED}
        assert states[RECONCILED] >= RECORDS // 2
        found = await tie_out(engine)
        assert found.holds
        assert sum(one.theirs for one in found.comparisons) == states[RECONCILED]
        assert await engine.outbox.count() == 0
