"""The rule that a stage's time limit fits into the broker's consumer time-out."""

import pytest

from ops.time_limits import check_time_limits, longest_hold_ms, longest_limit_ms, shortest_policy_ms
from pipeline.settings import InvalidSetting, Settings


def settings(**changed: object) -> Settings:
    return Settings(database_url="postgresql+psycopg://db", amqp_url="amqp://broker", **changed)


def test_the_defaults_fit_into_the_default_of_rabbitmq():
    check_time_limits(settings())


def test_a_limit_that_does_not_fit_is_refused_with_the_one_that_does():
    with pytest.raises(InvalidSetting, match="TIEOUT_STAGE_TIME_LIMIT_MS=900000") as refused:
        check_time_limits(settings(stage_time_limit_ms=900_000))
    assert f"at most {longest_limit_ms(settings(), 1_800_000)}," in str(refused.value)


@pytest.mark.parametrize("timeout_ms", [1_800_000, 1_800_001, 300_000])
def test_the_longest_limit_fits_and_the_next_one_does_not(timeout_ms):
    limit_ms = longest_limit_ms(settings(), timeout_ms)
    assert longest_hold_ms(settings(stage_time_limit_ms=limit_ms)) < timeout_ms
    assert longest_hold_ms(settings(stage_time_limit_ms=limit_ms + 1)) >= timeout_ms


def test_a_time_out_that_no_limit_fits_into_must_be_raised():
    with pytest.raises(InvalidSetting, match=r"after 60000: raise consumer_timeout"):
        check_time_limits(settings(consumer_timeout_ms=60_000))


def test_embedded_nobody_takes_a_message_back():
    check_time_limits(Settings(database_url="sqlite://", stage_time_limit_ms=10**9))


def test_of_the_policies_that_match_a_queue_the_shortest_counts():
    policies = [
        {"name": "others", "pattern": "^other", "definition": {"consumer-timeout": 1}},
        {"name": "limit", "pattern": ".*", "definition": {"delivery-limit": 20}},
        {"name": "all", "pattern": ".*", "definition": {"consumer-timeout": 3_600_000}},
        {"name": "ours", "pattern": r"^tieout\.post", "definition": {"consumer-timeout": 60_000}},
    ]
    assert shortest_policy_ms(policies, ["tieout.validate.live", "tieout.post.live"]) == ("ours", 60_000)
    assert shortest_policy_ms(policies, ["tieout.validate.live"]) == ("all", 3_600_000)
    assert shortest_policy_ms(policies[:2], ["tieout.validate.live"]) is None
