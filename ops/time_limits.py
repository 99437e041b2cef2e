"""Whether the time limit of a stage fits into the broker's consumer time-out, after which it takes messages back.

RabbitMQ counts from the delivery, so the time that a message waits in a worker's prefetch counts too. The rule: a
message may find every thread at work on one that runs to its limit, then run to the limit itself, and that must fit:

    2 x (stage_time_limit_ms + overrun_ms) + shutdown_grace_ms < consumer_timeout_ms

Longer chains (every thread meets several runaways one after the other) are left to the broker: it closes that queue's
channel and delivers all that was on it again, so nothing is lost, but finished work is done twice. A prefetch so small
that no chain fits would cost every other day its throughput.
"""

import re
from collections.abc import Mapping, Sequence
from typing import Any

from pipeline.settings import InvalidSetting, Settings

#: A stage is interrupted once a second at most, and not before a look-up it waits for is over (60 s).
overrun_ms = 61_000


def longest_hold_ms(settings: Settings) -> int:
    """How long a worker may hold a message by the rule above."""
    return 2 * (settings.stage_time_limit_ms + overrun_ms) + settings.shutdown_grace_ms


def longest_limit_ms(settings: Settings, consumer_timeout_ms: int) -> int:
    """The longest time limit that fits; 0 when none does."""
    return max(0, (consumer_timeout_ms - settings.shutdown_grace_ms - 1) // 2 - overrun_ms)


def check_time_limits(settings: Settings) -> None:
    """Refuse to work with a time limit that the broker would not wait for.

    Raises:
      InvalidSetting: says which limit fits, and what else to do. Embedded there is no such time-out.
    """
    if settings.embedded or longest_hold_ms(settings) < settings.consumer_timeout_ms:
        return
    fits = longest_limit_ms(settings, settings.consumer_timeout_ms)
    lower = f"set it to at most {fits}, or raise" if fits else "raise"
    raise InvalidSetting(
        f"TIEOUT_STAGE_TIME_LIMIT_MS={settings.stage_time_limit_ms}: a message may be held for "
        f"{longest_hold_ms(settings)} ms (twice the limit and {overrun_ms}, and the grace), and the broker takes it "
        f"back after {settings.consumer_timeout_ms}: {lower} consumer_timeout in rabbitmq.conf and "
        "TIEOUT_CONSUMER_TIMEOUT_MS with it"
    )


def shortest_policy_ms(policies: Sequence[Mapping[str, Any]], queues: Sequence[str]) -> tuple[str, int] | None:
    """The policy with the shortest `consumer-timeout` among those that match one of these queues, by name and value.

    Args:
      policies: as the management API lists them.
    """
    found = [
        (str(policy["name"]), int(policy["definition"]["consumer-timeout"]))
        for policy in policies
        if "consumer-timeout" in policy["definition"] and any(re.search(policy["pattern"], queue) for queue in queues)
    ]
    return min(found, key=lambda one: one[1], default=None)
