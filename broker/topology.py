"""Every exchange, queue, argument and binding, on one page.

    <prefix>.work          topic   `<stage>.<lane>`                          -> queue <prefix>.<stage>.<lane>
    <prefix>.retry.<tier>  topic   the same key; waits, then back to work    -> queue <prefix>.retry.<tier>
    <prefix>.dead          topic   `<stage>.<category>.<owner>.<code>`       -> queue <prefix>.dead (bound to #)

    <prefix>.control       fanout  who has what in hand (`broker/control.py`)       -> exclusive queues of who listens

`<prefix>.events` will carry outcomes once something listens to them; it is not declared.

All queues are durable quorum queues. What correctness needs is an argument, and arguments can't change once a queue
exists; what operators tune is a policy (see `policies`). What the servers do differently:

    delivery limit   3.10: none, a poison message is redelivered for ever, hence the policy; 4.x: 20 by default. Past
                     it a message is dead-lettered, or dropped where the queue has no exchange for it: `dead` has none,
                     so its own limit is out of reach. Every return counts; from 4.3 on only rejects and lost
                     connections do, not the nack by which a message returns that can be put nowhere else.
    returned         to the back of the queue where that has no delivery limit, else to its head: on 3.10 as the policy
                     has it, on 4.x to the head. Nothing relies on either: revisions decide, not order.
    x-death          3.10 counts what a client sends back, 4.x ignores it: we never send it, and count in `x-requeues`.
                     `x-last-death-*` comes with 3.13; what is read is `x-death`, which all have, the newest first.
    x-delivery-count 3.10 sends 0 with a first delivery, 4.x nothing; `x-acquired-count` (4.3) is not read.
    message size     3.10: 128 MiB; 4.x: 16 MiB, and a larger one closes the channel with all that is on its way there:
                     ours end at 8 MiB (`BODY_BYTES_MAX`).
    consumer timeout 30 min. Up to 4.2 it closes the channel; from 4.3 on it cancels the consumer, of quorum queues
                     only. Both begin a new epoch, and what was in hand is somebody else's.
    no longer there  4.0: mirrored classic queues; 4.3: global QoS, transient queues that are not exclusive, Mnesia. We
                     use quorum queues, a prefetch per consumer, and exclusive queues for what may go with its worker.
    priority         3.10: none on quorum queues (`x-max-priority` is refused); 4.x: two levels, 4.3: 32. We send none.
    dead-lettering   at least once needs `reject-publish` and, on 3.10, the feature flag `stream_queue`.

On a cluster a new quorum queue has a member on three nodes (the server's default, so no argument says it) and outlives
one of them. One that was declared while there were fewer nodes stays as it is: `rabbitmq-queues grow NODE all` adds
members, `rabbitmq-queues rebalance quorum` spreads the leaders, which all sit where they were declared. Without a
majority nothing is confirmed, declared or consumed; the server says so after up to 65 s (541), we hang up after 30 s
and try the next node. With `cluster_partition_handling = pause_minority` such a node lets nobody in, which is better.
"""

import json
import shlex
from collections.abc import Iterable
from typing import Any

import msgspec

#: The last word of the key under which the server itself dead-letters: `<stage>.technical.it.BROKER`.
BROKER_CODE = "BROKER"

#: A limit that no dead letter ever reaches; 3.10 doesn't know -1 (without limit).
OUT_OF_REACH = 1_000_000_000

#: How often a message may come back without an answer before the server dead-letters it.
DELIVERY_LIMIT = 20


class Exchange(msgspec.Struct, frozen=True):
    """A durable topic exchange."""

    name: str
    kind: str = "topic"


class Queue(msgspec.Struct, frozen=True):
    """A durable quorum queue; `short` is its name without the prefix."""

    name: str
    short: str
    arguments: dict[str, Any]


class Binding(msgspec.Struct, frozen=True):
    """Messages that `exchange` gets under `key` go to `queue`."""

    exchange: str
    queue: str
    key: str


class Tier(msgspec.Struct, frozen=True):
    """A delay that the broker keeps: every message in the tier's queue waits equally long, so none blocks another."""

    name: str
    delay_ms: int


TIERS = (
    Tier("1s", 1_000),
    Tier("5s", 5_000),
    Tier("30s", 30_000),
    Tier("2m", 120_000),
    Tier("10m", 600_000),
    Tier("1h", 3_600_000),
)


def tier_for(delay_ms: int) -> Tier:
    """The longest tier that is not longer than the delay; a delay under the shortest tier waits that long."""
    return max((tier for tier in TIERS if tier.delay_ms <= delay_ms), key=lambda tier: tier.delay_ms, default=TIERS[0])


class Topology(msgspec.Struct, frozen=True):
    """What one deployment (`prefix`) declares for its work queues, given by their short names (`validate.live`)."""

    prefix: str
    work_queues: tuple[str, ...]

    @property
    def work(self) -> str:
        return f"{self.prefix}.work"

    @property
    def dead(self) -> str:
        return f"{self.prefix}.dead"

    def retry(self, tier: Tier) -> str:
        """The name of both the tier's exchange and its queue."""
        return f"{self.prefix}.retry.{tier.name}"

    def work_queue(self, short: str) -> Queue:
        stage = short.partition(".")[0]
        return Queue(
            f"{self.prefix}.{short}",
            short,
            {
                "x-queue-type": "quorum",
                "x-dead-letter-exchange": self.dead,
                "x-dead-letter-routing-key": f"{stage}.technical.it.{BROKER_CODE}",
                "x-dead-letter-strategy": "at-least-once",
                "x-overflow": "reject-publish",
            },
        )

    def retry_queue(self, tier: Tier) -> Queue:
        return Queue(
            self.retry(tier),
            f"retry.{tier.name}",
            {
                "x-queue-type": "quorum",
                "x-message-ttl": tier.delay_ms,
                "x-dead-letter-exchange": self.work,
                "x-dead-letter-strategy": "at-least-once",
                "x-overflow": "reject-publish",
            },
        )

    @property
    def dead_queue(self) -> Queue:
        return Queue(self.dead, "dead", {"x-queue-type": "quorum", "x-delivery-limit": OUT_OF_REACH})

    @property
    def exchanges(self) -> tuple[Exchange, ...]:
        names = (self.work, self.dead, *(self.retry(tier) for tier in TIERS))
        return (*(Exchange(name) for name in names), Exchange(f"{self.prefix}.control", "fanout"))

    @property
    def queues(self) -> tuple[Queue, ...]:
        work = (self.work_queue(short) for short in self.work_queues)
        return (self.dead_queue, *work, *(self.retry_queue(tier) for tier in TIERS))

    @property
    def bindings(self) -> tuple[Binding, ...]:
        work = (Binding(self.work, f"{self.prefix}.{short}", short) for short in self.work_queues)
        retry = (Binding(self.retry(tier), self.retry(tier), "#") for tier in TIERS)
        return (Binding(self.dead, self.dead, "#"), *work, *retry)


class Policy(msgspec.Struct, frozen=True):
    """A setting that belongs to the operator, not to the application."""

    name: str
    pattern: str
    definition: dict[str, Any]
    why: str

    def command(self, vhost: str = "/") -> str:
        """The command line that sets it."""
        words = ("rabbitmqctl", "set_policy", "-p", vhost, "--apply-to", "queues", self.name, self.pattern)
        return shlex.join((*words, json.dumps(self.definition)))


def policies(prefix: str, lanes: Iterable[str], server_version: str | None = None) -> tuple[Policy, ...]:
    """What an operator should set, for `tieout doctor`; nothing on servers (4.x) whose defaults already say it."""
    if server_version and int(server_version.partition(".")[0]) >= 4:
        return ()
    escaped = prefix.replace(".", r"\.")
    return (
        Policy(
            f"{prefix}-delivery-limit",
            rf"^{escaped}\.[^.]+\.({'|'.join(lanes)})$",
            {"delivery-limit": DELIVERY_LIMIT},
            "without it a message that kills its worker is redelivered for ever",
        ),
    )


class TopologyMismatch(Exception):
    """An exchange or queue exists with other arguments than ours; the text has the server's words and the repair."""


def mismatch(declared: Exchange | Queue, vhost: str, server_text: str) -> TopologyMismatch:
    """The one clear error for a declaration that the server refused."""
    if isinstance(declared, Queue):
        command = shlex.join(("rabbitmqctl", "delete_queue", "-p", vhost, "--if-empty", declared.name))
        kind, expected = "queue", json.dumps(declared.arguments)
    else:
        name = shlex.quote(f"name={declared.name}")
        command = f"rabbitmqadmin --vhost={shlex.quote(vhost)} delete exchange {name}"
        kind, expected = "exchange", declared.kind
    return TopologyMismatch(
        f"{kind} {declared.name!r} exists with other arguments than {expected}: {server_text}. "
        f"Let it run empty, then remove it and start again: {command}"
    )
