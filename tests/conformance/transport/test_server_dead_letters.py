"""What the server itself dead-letters: kept as it is, archived once, looked at, carried away; nothing of it expires."""

import asyncio
import json
from collections.abc import AsyncIterator
from pathlib import Path

import msgspec
import pika
import pytest
from loguru import logger
from sqlalchemy.engine import make_url

from broker.delivery import DUE, REQUEUES, DeliveryInfo
from broker.embedded import EmbeddedBroker
from broker.encoding import encode_batch
from broker.rabbitmq import RabbitBroker
from broker.topology import TIERS, Topology
from ops.bootstrap import Engine, open_engine
from pipeline.errors import TransientError
from pipeline.settings import Settings
from store.dead_letter_filter import DeadLetterFilter
from tests.acceptance.product import Product
from tests.conformance.transport.conftest import Rig, a_batch, a_message, remove, until
from tests.conformance.transport.proxy import Proxy
from tests.conformance.transport.server import channel_to, give_up, look_into, refusal_of

BYTES = b"\xff\x00 not json"


@pytest.fixture
async def settings(migrated_postgresql_url: str, amqp_url: str, prefix: str) -> AsyncIterator[Settings]:
    """A deployment of its own, taken off the server again; messages of 8 KiB are too large for it."""
    settings = Settings(database_url=migrated_postgresql_url, amqp_url=amqp_url, prefix=prefix, message_bytes_max=1024)
    yield settings
    async with open_engine(settings) as engine:
        assert isinstance(engine.broker, RabbitBroker)
        broker = engine.broker
    await remove(amqp_url, broker)


def publish(settings: Settings, body: bytes, key: str = "validate.live", **properties: object) -> None:
    """As some other program would: without any of our courtesies."""
    assert settings.amqp_url is not None
    with channel_to(settings.amqp_url) as channel:
        channel.confirm_delivery()
        channel.basic_publish(f"{settings.prefix}.work", key, body, pika.BasicProperties(**properties), mandatory=True)


async def archived(engine: Engine) -> str:
    """Wait for the one letter of the archive, and for the queue to be empty; returns its id."""
    async with asyncio.timeout(30):
        while True:
            if found := await engine.dead_letters.list(DeadLetterFilter()):
                break
            await asyncio.sleep(0.05)
    await empty(engine)
    (letter,) = found
    return letter.id


async def empty(engine: Engine) -> None:
    async with asyncio.timeout(30):
        while True:
            if not any(depth.ready for depth in (await engine.depths()).values()):
                return
            await asyncio.sleep(0.05)


def product(settings: Settings, folder: Path) -> Product:
    database_url = settings.database_url.replace("postgresql+psycopg:", "postgresql:", 1)
    return Product(folder, DATABASE_URL=database_url, AMQP_URL=settings.amqp_url or "", TIEOUT_PREFIX=settings.prefix)


@pytest.mark.parametrize("body", [BYTES, b"x" * (8 * 1024 + 1)], ids=["undecodable", "oversized"])
async def test_bytes_that_no_worker_takes_are_kept_shown_and_exported(
    body: bytes, settings: Settings, tmp_path: Path
) -> None:
    async with open_engine(settings, work=True) as engine:
        await asyncio.to_thread(publish, settings, body, message_id="odd", headers={"from": "afar", "tries": 3})
        letter_id = await archived(engine)
        detail = await engine.dead_letters.show(letter_id)
    assert detail.letter == body
    tieout = product(settings, tmp_path)
    shown = await asyncio.to_thread(tieout.json, "dead", "show", letter_id)
    assert (shown["id"], shown["code"], shown["stage"]) == ("odd", "UNDECODABLE", "validate")
    assert (shown["headers"]["from"], shown["headers"]["tries"]) == ("afar", 3)
    (death,) = shown["headers"]["x-death"]
    assert (death["reason"], death["queue"], death["count"]) == ("rejected", f"{settings.prefix}.validate.live", 1)
    assert shown["raw"] == body.decode("utf-8", "replace")
    done = await asyncio.to_thread(tieout.run, "dead", "export", "--format", "jsonl")
    (exported,) = map(json.loads, done.stdout.splitlines())
    assert (exported["id"], exported["code"]) == ("odd", "UNDECODABLE")


async def test_an_oversized_message_is_not_even_read(settings: Settings) -> None:
    batch = a_batch("x" * 8 * 1024)
    async with open_engine(settings, work=True) as engine:
        await asyncio.to_thread(publish, settings, encode_batch("validate.live", "validate", batch), message_id="big")
        await until(lambda: engine.broker.counts.rejected == 1)
        await empty(engine)
        assert engine.broker.counts.acknowledged == 0


async def test_a_poison_message_is_archived_with_the_servers_account_of_it(rabbit: Rig, amqp_url: str) -> None:
    await rabbit.open(lambda stage, body, info: None, work=False)
    assert isinstance(rabbit.broker, RabbitBroker)
    topology, body = rabbit.broker.topology, encode_batch("first.live", "first", a_batch(1))
    await asyncio.to_thread(give_up, amqp_url, topology, "first", body, message_id="m-1", headers={"source": "psa"})
    got = await asyncio.to_thread(look_into, amqp_url, topology.dead)
    assert (got.body, got.properties.message_id, got.method.routing_key) == (body, "m-1", "first.technical.it.BROKER")
    assert got.properties.headers["source"] == "psa"
    (death,) = got.properties.headers["x-death"]
    assert (death["reason"], death["count"]) == ("delivery_limit", 1)


async def test_while_the_store_is_away_dead_letters_wait_on_the_broker(settings: Settings) -> None:
    server = make_url(settings.database_url)
    proxy = Proxy(server.host or "127.0.0.1", server.port or 5432)
    await proxy.start()
    away = server.set(host="127.0.0.1", port=proxy.port).render_as_string(hide_password=False)
    failed: list[str] = []
    sink = logger.add(failed.append, filter=lambda record: record["extra"].get("event") == "archive_failed")
    try:
        async with open_engine(msgspec.structs.replace(settings, database_url=away), work=True):
            await proxy.stop()
            await asyncio.to_thread(publish, settings, BYTES, message_id="odd")
            await until(lambda: failed)
        dead = Topology(settings.prefix, ()).dead
        assert (await asyncio.to_thread(look_into, settings.amqp_url, dead)).body == BYTES
        async with open_engine(settings) as idle:
            assert await idle.dead_letters.list(DeadLetterFilter()) == []
        await proxy.start()
        async with open_engine(msgspec.structs.replace(settings, database_url=away), work=True) as engine:
            assert await archived(engine) == "odd"
    finally:
        logger.remove(sink)
        await proxy.stop()


async def test_the_archiver_goes_on_by_itself_when_the_store_is_back(settings: Settings) -> None:
    server = make_url(settings.database_url)
    proxy = Proxy(server.host or "127.0.0.1", server.port or 5432)
    await proxy.start()
    away = server.set(host="127.0.0.1", port=proxy.port).render_as_string(hide_password=False)
    failed: list[str] = []
    sink = logger.add(failed.append, filter=lambda record: record["extra"].get("event") == "archive_failed")
    try:
        async with open_engine(msgspec.structs.replace(settings, database_url=away), work=True) as engine:
            await proxy.stop()
            await asyncio.to_thread(publish, settings, BYTES, message_id="odd")
            await until(lambda: failed)
            await proxy.start()
            assert await archived(engine) == "odd"
    finally:
        logger.remove(sink)
        await proxy.stop()


# Nothing expires


def test_no_queue_on_the_way_to_the_dead_letters_has_a_time_to_live_or_a_bound() -> None:
    topology = Topology("tieout", ("validate.bulk", "validate.live"))
    tiers = {topology.retry(tier) for tier in TIERS}
    for queue in topology.queues:
        assert "x-expires" not in queue.arguments
        assert "x-max-length" not in queue.arguments
        assert "x-max-length-bytes" not in queue.arguments
        assert ("x-message-ttl" in queue.arguments) == (queue.name in tiers)


async def test_the_server_says_so_too(rabbit: Rig, amqp_url: str) -> None:
    await rabbit.open(lambda stage, body, info: None, work=False)
    assert isinstance(rabbit.broker, RabbitBroker)
    topology = rabbit.broker.topology
    for queue in (topology.dead_queue, topology.work_queue("first.live"), topology.work_queue("first.bulk")):
        for argument in ("x-message-ttl", "x-expires"):
            text = await asyncio.to_thread(refusal_of, amqp_url, queue, **{argument: 86_400_000})
            assert f"inequivalent arg '{argument}'" in text
            assert text.endswith("but current is none")
    tier = topology.retry_queue(TIERS[0])
    text = await asyncio.to_thread(refusal_of, amqp_url, tier, **{"x-message-ttl": 86_400_000})
    assert text.endswith("but current is '1000'")


async def test_a_senders_expiration_does_not_follow_a_message_to_the_dead_letters(rabbit: Rig, amqp_url: str) -> None:
    await rabbit.open(lambda stage, body, info: None)
    assert isinstance(rabbit.broker, RabbitBroker)
    settings = Settings(database_url="", amqp_url=amqp_url, prefix=rabbit.broker.prefix)
    await asyncio.to_thread(publish, settings, BYTES, "first.live", expiration="60000")
    got = await asyncio.to_thread(look_into, amqp_url, rabbit.broker.topology.dead)
    assert got.properties.expiration is None
    assert got.properties.headers["x-death"][0]["original-expiration"] == "60000"


# Retries


async def test_a_delay_longer_than_the_longest_tier_goes_round_again(rabbit: Rig, amqp_url: str) -> None:
    ran: list[str] = []
    await rabbit.open(lambda stage, body, info: ran.append(stage))
    assert isinstance(rabbit.broker, RabbitBroker)
    await rabbit.publisher.publish([a_message(1, delay_ms=3 * TIERS[-1].delay_ms)])
    longest = rabbit.broker.topology.retry(TIERS[-1])
    waiting = await asyncio.to_thread(look_into, amqp_url, longest)
    due = waiting.properties.headers[DUE]
    # What the server does when the hour is over, without the hour.
    await asyncio.to_thread(_hand_on, amqp_url, longest, rabbit.broker.topology.work)
    await rabbit.ready(f"retry.{TIERS[-1].name}", 1)
    again = await asyncio.to_thread(look_into, amqp_url, longest)
    assert abs(again.properties.headers[DUE] - due) < 1_000
    assert (again.body, ran) == (waiting.body, [])


def _hand_on(amqp_url: str, queue: str, exchange: str) -> None:
    with channel_to(amqp_url) as channel:
        channel.confirm_delivery()
        method, properties, body = channel.basic_get(queue)
        channel.basic_publish(exchange, method.routing_key, body, properties, mandatory=True)
        channel.basic_ack(method.delivery_tag)


async def test_attempts_are_counted_by_us_and_the_servers_own_account_is_not_sent_back(
    rabbit: Rig, amqp_url: str
) -> None:
    seen: list[int] = []

    def handle(stage: str, body: bytes, info: DeliveryInfo) -> None:
        seen.append(info.requeues)
        raise TransientError("the database is away")

    await rabbit.open(handle)
    assert isinstance(rabbit.broker, RabbitBroker)
    await rabbit.publisher.publish([a_message(1)])
    await until(lambda: len(seen) == 2)
    got = await asyncio.to_thread(look_into, amqp_url, rabbit.broker.topology.retry(TIERS[1]))
    assert seen == [0, 1]
    assert got.properties.headers[REQUEUES] == 2
    assert not [name for name in got.properties.headers if name.startswith(("x-death", "x-first-", "x-last-"))]


async def test_embedded_an_oversized_message_is_a_dead_letter_too() -> None:
    rig = Rig(EmbeddedBroker(body_bytes_max=100))
    await rig.open(lambda stage, body, info: None)
    await rig.publisher.publish([a_message("x" * 100)])
    await rig.ready("dead", 1)
    await rig.stop()
    await rig.broker.aclose()
