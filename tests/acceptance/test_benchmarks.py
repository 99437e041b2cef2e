"""The benchmarks on real servers, for the contenders that need no further library; the others work the same way."""

import pytest
from msgspec.structs import replace

from benchmarks.contenders import ENTRANTS
from benchmarks.plan import QUICK
from benchmarks.rounds import take_turn
from benchmarks.servers import Servers, amqp, standing
from benchmarks.session import Failed, session

pytestmark = pytest.mark.slow

PLAN = replace(QUICK, events=40, paced_events=10)


@pytest.fixture(scope="module")
def bench_servers(amqp_url: str, postgres_server: str) -> Servers:
    return Servers.at(amqp_url, postgres_server)


@pytest.mark.parametrize("name", ["tieout", "broker", "pika"])
def test_a_contender_takes_its_turn(bench_servers, name):
    figures = take_turn(ENTRANTS[name], bench_servers, PLAN).figures
    assert figures.events_per_s
    assert figures.events_per_s > 0
    assert figures.p50_ms
    assert figures.p99_ms
    assert 0 < figures.p50_ms <= figures.p99_ms
    assert figures.cpu_s_per_1000 is not None
    assert figures.rss_mb
    assert figures.repeated == 0


@pytest.mark.parametrize("name", ["tieout-bulk", "broker-bulk"])
def test_batches_take_their_turn_on_the_bulk_lane(bench_servers, name):
    figures = take_turn(ENTRANTS[name], bench_servers, PLAN).figures
    assert figures.events_per_s
    assert figures.p50_ms is None


def test_what_was_queued_beforehand_is_drained_and_nothing_of_a_session_is_left(bench_servers):
    with session(ENTRANTS["broker"], bench_servers, slots=8_000) as contender:
        contender.publish(4_000)
        drained = contender.drain()
        assert 0 < drained.events <= 3_500, "what came first is not counted"
        assert drained.seconds > 0
        about = contender.about
    with amqp(bench_servers.amqp_url) as connection:
        left = [queue for queue in (*about.queues, *about.other_queues) if standing(connection, queue) is not None]
    assert left == []


def test_a_contender_that_can_not_start_fails_with_its_own_words(bench_servers):
    nobody = replace(ENTRANTS["broker"], module="benchmarks.contenders.nobody")
    with pytest.raises(Failed, match=r"No module named .benchmarks\.contenders\.nobody"):
        take_turn(nobody, bench_servers, PLAN)
