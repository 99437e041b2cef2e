"""A poison message that the broker gave up: every record in it needs a person, once, and none is lost."""

from pathlib import Path

import pytest

from broker.dead_letters import RawDeadLetter
from ops.archiving import archive
from ops.bootstrap import Engine, open_engine
from pipeline.messages import decode
from pipeline.settings import Settings
from store.dead_letter_filter import DeadLetterFilter
from store.record_states import states_of
from tests.conformance.store.given import a_message, a_record, given_in


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return Settings(database_url=f"sqlite+aiosqlite:///{tmp_path / 'tieout.db'}", data_dir=tmp_path)


RECORDS = [a_record(f"E-{number}") for number in range(200)]


def given_up(stage: str) -> RawDeadLetter:
    batch = decode(a_message(RECORDS).body)
    return RawDeadLetter(
        body=b"",
        headers={},
        routing_key=f"{stage}.technical.it.BROKER",
        stage=stage,
        reason="delivery_limit",
        message_id="m-1",
        batch=batch,
    )


async def standing(engine: Engine) -> dict[str, int]:
    return await states_of(engine.db, {record.id for record in RECORDS})


async def letters(engine: Engine) -> int:
    return len(await engine.dead_letters.list(DeadLetterFilter()))


async def test_every_record_of_a_poison_message_is_dead_once(settings: Settings) -> None:
    async with open_engine(settings) as engine, given_in(engine.db) as given:
        await given.accepted(*RECORDS)
        for _ in range(2):  # shown again, since the worker died before it could acknowledge
            await archive(engine, given_up("validate"))
        assert await standing(engine) == {"dead": 200}
        assert await letters(engine) == 200


async def test_a_record_that_got_further_meanwhile_stays_where_it_is(settings: Settings) -> None:
    async with open_engine(settings) as engine, given_in(engine.db) as given:
        await given.accepted(*RECORDS)
        await given.posted(RECORDS[0])
        await archive(engine, given_up("validate"))
        assert await standing(engine) == {"dead": 199, "posted": 1}
