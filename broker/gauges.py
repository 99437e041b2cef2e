"""Gauges: what can be read off a broker while it runs."""

from typing import NamedTuple

import msgspec


class Depth(NamedTuple):
    """How many messages of a queue are ready, and how many consumers it has."""

    ready: int
    consumers: int


class Counts(msgspec.Struct):
    """What happened since this process opened its broker."""

    acknowledged: int = 0
    requeued: int = 0
    rejected: int = 0
    stale: int = 0
    dead_published: int = 0
