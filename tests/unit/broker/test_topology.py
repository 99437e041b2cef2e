"""The topology page: what is declared, and what is told to the operator."""

import re

import pytest

from broker.topology import TIERS, Queue, Topology, mismatch, policies, tier_for

TOPOLOGY = Topology("tieout", ("validate.bulk", "validate.live"))


def test_every_queue_is_a_quorum_queue_and_bound() -> None:
    bound = {binding.queue for binding in TOPOLOGY.bindings}
    for queue in TOPOLOGY.queues:
        assert queue.arguments["x-queue-type"] == "quorum"
        assert queue.name in bound
    feeding = {exchange.name for exchange in TOPOLOGY.exchanges if exchange.kind == "topic"}
    assert {binding.exchange for binding in TOPOLOGY.bindings} == feeding


def test_a_queue_that_dead_letters_does_so_at_least_once_and_into_an_exchange_of_ours() -> None:
    exchanges = {exchange.name for exchange in TOPOLOGY.exchanges}
    lettering = [queue for queue in TOPOLOGY.queues if "x-dead-letter-exchange" in queue.arguments]
    assert len(lettering) == len(TOPOLOGY.queues) - 1
    for queue in lettering:
        assert queue.arguments["x-dead-letter-exchange"] in exchanges
        assert queue.arguments["x-dead-letter-strategy"] == "at-least-once"
        assert queue.arguments["x-overflow"] == "reject-publish"


def test_a_dead_letter_never_expires_and_is_never_delivered_too_often() -> None:
    assert "x-message-ttl" not in TOPOLOGY.dead_queue.arguments
    assert TOPOLOGY.dead_queue.arguments["x-delivery-limit"] > 1_000_000


def test_a_work_queue_names_its_stage_in_the_key_it_dead_letters_under() -> None:
    arguments = TOPOLOGY.work_queue("validate.live").arguments
    assert arguments["x-dead-letter-routing-key"] == "validate.technical.it.BROKER"


def test_a_retry_queue_keeps_the_key_so_that_the_message_finds_back() -> None:
    for tier in TIERS:
        arguments = TOPOLOGY.retry_queue(tier).arguments
        assert arguments["x-message-ttl"] == tier.delay_ms
        assert arguments["x-dead-letter-exchange"] == TOPOLOGY.work
        assert "x-dead-letter-routing-key" not in arguments


@pytest.mark.parametrize(
    ("delay_ms", "tier"),
    [(1, "1s"), (999, "1s"), (1_000, "1s"), (29_999, "5s"), (30_000, "30s"), (7_200_000, "1h")],
)
def test_the_longest_tier_that_is_not_longer_than_the_delay_is_taken(delay_ms: int, tier: str) -> None:
    assert tier_for(delay_ms).name == tier


def test_the_delivery_limit_policy_names_work_queues_and_no_others() -> None:
    (policy,) = policies("tieout", ("live", "bulk"), "3.10.8")
    matched = [queue.name for queue in TOPOLOGY.queues if re.search(policy.pattern, queue.name)]
    assert matched == ["tieout.validate.bulk", "tieout.validate.live"]
    assert policy.command("/") == (
        "rabbitmqctl set_policy -p / --apply-to queues tieout-delivery-limit "
        r"""'^tieout\.[^.]+\.(live|bulk)$' '{"delivery-limit": 20}'"""
    )


def test_servers_with_a_delivery_limit_of_their_own_need_no_policy() -> None:
    assert policies("tieout", ("live",), "4.1.2") == ()


def test_a_mismatch_says_how_to_mend_it() -> None:
    error = mismatch(Queue("tieout.dead", "dead", {}), "orders", "inequivalent arg 'x-message-ttl'")
    assert "inequivalent arg 'x-message-ttl'" in str(error)
    assert "rabbitmqctl delete_queue -p orders --if-empty tieout.dead" in str(error)
