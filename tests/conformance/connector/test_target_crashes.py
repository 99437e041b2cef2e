"""A worker that is killed between call and answer: the next one asks, and nothing is posted twice or not at all."""

import asyncio
import os
import signal
import subprocess
import sys
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from contracts.channels import Posted
from pipeline.errors import TransientError
from pipeline.ports import Target
from store.database import Database
from tests.faults.plan import FaultPlan

from .dying import AFTER, BEFORE, NOWHERE
from .registry import SUBJECTS
from .subjects import Subject
from .test_target import count, identity
from .worker import Worker, accept_documents

ROOT = Path(__file__).parents[3]
program_timeout_s = 60


def program(subject: Subject, place: str, database_url: str, point: str) -> dict[str, Any]:
    """The program that posts document 1 and is killed at the point."""
    name = next(name for name, kind in SUBJECTS.items() if type(subject) is kind)
    environment = {name: os.environ[name] for name in ("PATH", "HOME") if name in os.environ}
    return {
        "args": [sys.executable, "-m", "tests.conformance.connector.dying", name, place, database_url, point],
        "cwd": ROOT,
        "env": environment | {"PYTHONPATH": str(ROOT / "scripts")},
        "stderr": subprocess.PIPE,
        "text": True,
    }


async def settles_once(subject: Subject, database: Database) -> None:
    """What the next worker does: it waits until the dead one's call is over, asks, and sends what is not there."""
    document, worker = subject.document(1), Worker(database, subject.open())
    if not worker.target.capabilities.unique_reference:
        with pytest.raises(TransientError, match="may still be under way"):
            await worker.post(document)
        await worker.lapse(document)
    posted = await worker.post(document)
    assert isinstance(posted, Posted)
    assert await count(worker.target) == 1
    found = await worker.target.find(document.reference)
    assert found is not None
    assert identity(posted.receipt) == identity(found.receipt)
    await worker.close()


@pytest.mark.parametrize("point", [BEFORE, AFTER])
async def test_killed_before_or_after_its_call_the_document_is_posted_once_by_the_next_worker(
    subject: Subject, target: Target, database: Database, migrated_url: str, point: str
) -> None:
    await accept_documents(database, [subject.document(1)])
    dying = program(subject, subject.place, migrated_url, point)
    done = await asyncio.to_thread(partial(subprocess.run, **dying, timeout=program_timeout_s))
    assert done.returncode == -signal.SIGKILL, f"it never came to the point:\n{done.stderr[-3000:]}"
    assert await count(target) == (1 if point == AFTER else 0)
    await settles_once(subject, database)


async def test_killed_while_the_system_works_on_its_call_the_document_is_posted_once_by_the_next_worker(
    remote_subject: Subject, database: Database, migrated_url: str
) -> None:
    await accept_documents(database, [remote_subject.document(1)])
    with remote_subject.road(FaultPlan(share=0), 1) as road:
        done = road.faults.once("hang", road.posts)
        start = partial(subprocess.Popen, **program(remote_subject, road.place, migrated_url, NOWHERE))
        with await asyncio.to_thread(start) as dying:
            arrived = await asyncio.to_thread(done.wait, program_timeout_s)
            dying.kill()
            _, words = await asyncio.to_thread(dying.communicate)
        assert arrived, f"it never came to the call:\n{words[-3000:]}"
    await settles_once(remote_subject, database)
