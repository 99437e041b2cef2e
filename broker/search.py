"""Search: finds out which records a broker still has, without touching its queues.

A record that has not moved since before the search began is in a work queue, in a worker's hands, or on a retry tier;
so it is lost once all three have been looked through, in this order:

1. The roll is called, so that we know who works.
2. A work queue or tier that is empty has nothing. Into any other one a marker is put: queues are first-in-first-out,
   so what was there before has been handed to a worker when the marker comes out.
3. The roll is called again: whoever has had the record has it still, or has put it back, or has settled it, and then
   the ledger has a new step. If a worker has gone meanwhile, or lost a channel, its messages are back in their queues
   (in front on a quorum queue with a delivery limit, else behind): then all of it begins anew.

The census is complete when every consumer that the server counts has answered, those of the dead-letter queue included:
a worker that is about to stop takes from no work queue any more, and still archives.
"""

import asyncio
from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Awaitable, Callable, Collection, Mapping
from uuid import uuid4

import msgspec

from broker.connection import AmqpChannel, AmqpConnection
from broker.control import Control, Joined, MarkerOut, Note, Part, Present, RollCall, a_marker
from broker.delivery import NotConfirmed, Outgoing
from broker.gauges import Depth
from broker.topology import TIERS
from pipeline.errors import TransientError

#: Whatever a transport puts back without a step in the ledger waits on one of these; longer delays the ledger knows.
SHORT_TIERS = {f"retry.{tier.name}": tier.delay_ms for tier in TIERS if tier.delay_ms <= 30_000}

#: Messages that were put back so long before the search began have come out of those tiers.
PUT_BACK_BEFORE_S = 60.0

#: A marker may have been purged from a queue that has filled up since: after so long another one follows it.
ANOTHER_MARKER_S = 600.0

#: How long one roll call may take; it is asked again meanwhile.
CALL_TIMEOUT_S = 5.0
ASK_AGAIN_S = 1.0
POLL_S = 0.05


class SearchLost(TransientError):
    """The search has lost its own connection, or a marker: begin another one."""


class _Disturbed(Exception):
    """Messages have gone back to their queues meanwhile; what was found so far does not count."""


class Search(ABC):
    """`held` and `closed` mean something once `finish` has returned true.

    `held`: every record that is still somewhere, of those the search was begun for. `closed`: the queues (by short
    name) that nothing can be told of, and why; "" stands for all.
    """

    held: frozenset[Part] = frozenset()
    closed: Mapping[str, str] = {}
    #: Why it is not finished yet.
    hindrance: str = ""

    @abstractmethod
    async def finish(self, timeout_s: float) -> bool:
        """Go on, at most for so long; false when it needs more time, and may then be called again.

        Raises:
          TransientError: the search is lost.
        """

    @abstractmethod
    async def glance(self) -> bool:
        """Only what can be told at once: a queue with messages in it is closed. False when not even that can be."""

    @abstractmethod
    async def close(self) -> None:
        """Give up whatever it keeps at the broker."""


class MemorySearch(Search):
    """Within one process everything is known at once."""

    def __init__(self, look: Callable[[], frozenset[Part]]) -> None:
        self._look = look

    async def finish(self, timeout_s: float) -> bool:
        self.held = self._look()
        return True

    async def glance(self) -> bool:
        return await self.finish(0)

    async def close(self) -> None:
        """Nothing is kept."""


class _Marker(msgspec.Struct, frozen=True):
    """A way that messages come: into a work queue, straight or through a tier."""

    queue: str
    tier: str | None

    @property
    def places(self) -> list[str]:
        return [self.queue, *([self.tier] if self.tier else [])]


class BrokerSearch(Search):
    """A search through these work queues of RabbitMQ. Its channel must stay open while it lasts."""

    def __init__(
        self,
        control: Control,
        queues: Collection[str],
        depths: Callable[[], Awaitable[dict[str, Depth]]],
        put: Callable[[list[Outgoing]], Awaitable[None]],
    ) -> None:
        self._control, self._queues, self._depths, self._put = control, sorted(queues), depths, put
        self._name = uuid4().hex
        self._channel: AmqpChannel | None = None
        self._began = asyncio.get_running_loop().time()
        self._call = ""
        self._answers: dict[str, Present] = {}
        self._joined: set[str] = set()
        self._workers: dict[str, int] | None = None
        self._markers: dict[str, _Marker] = {}
        self._gone: Counter[_Marker] = Counter()
        self._put_at = 0.0

    async def open(self, connection: AmqpConnection) -> None:
        """Raises TransientError: there is no connection."""
        try:
            async with asyncio.timeout(CALL_TIMEOUT_S):
                self._channel = await connection.channel()
                await self._control.listen(self._channel, self._name, self._hear)
        except TimeoutError:
            raise SearchLost(f"{connection.name} is not connected") from None

    async def close(self) -> None:
        if self._channel is not None:
            await self._channel.close()

    async def finish(self, timeout_s: float) -> bool:
        deadline = asyncio.get_running_loop().time() + timeout_s
        while True:
            try:
                if self._workers is None:
                    await self._begin()
                if not await self._looked_through(deadline):
                    return False
                await self._call_the_roll_again()
            except _Disturbed as reason:
                self._workers, self._markers = None, {}
                self.hindrance = str(reason)
                if asyncio.get_running_loop().time() >= deadline:
                    return False
            else:
                return True

    async def glance(self) -> bool:
        try:
            self._workers = {}
            depths = await self._depths()
            waiting = {queue for queue in self._queues if depths[queue].ready} if self._knows(depths) else {""}
            waiting |= {"" for name in ("dead", *SHORT_TIERS) if name in depths and depths[name].ready}
            self.closed = dict.fromkeys(waiting, "it holds messages")
            self.held = _held(await self._call_the_roll())
        except _Disturbed as reason:
            self.hindrance = str(reason)
            return False
        return True

    async def _begin(self) -> None:
        """Call the roll, then see which queues need a marker."""
        self._joined.clear()
        self._workers = {worker: answer.losses for worker, answer in (await self._call_the_roll()).items()}
        depths = await self._depths()
        missing = [queue for queue in self._queues if queue not in depths]
        tiers = [name for name in SHORT_TIERS if name in depths and depths[name].ready]
        closed: dict[str, str] = dict.fromkeys(missing, "it does not exist")
        ways: list[_Marker] = []
        for queue in self._queues:
            if queue in missing:
                continue
            ready, consumers = depths[queue]
            if not consumers and (ready or tiers):
                where = f"{ready:,} messages" if ready else f"it is empty, but {', '.join(tiers)} are not"
                closed[queue] = f"{where}, no consumer: start a worker"
                continue
            ways += [_Marker(queue, tier) for tier in [*([None] if ready else []), *tiers]]
        self.closed, self._markers = closed, {}
        await self._put_markers(ways)

    async def _put_markers(self, ways: list[_Marker]) -> None:
        if not ways:
            return
        reply_to = self._control.queue_of(self._name)
        messages = [a_marker(way.queue, reply_to, SHORT_TIERS[way.tier] if way.tier else None) for way in ways]
        self._markers |= {message.message_id: way for message, way in zip(messages, ways, strict=True)}
        self._put_at = asyncio.get_running_loop().time()
        self._gone.clear()
        await self._put(messages)

    async def _looked_through(self, deadline: float) -> bool:
        """Wait until every marker has come out, and what RabbitMQ itself has dead-lettered is archived."""
        loop = asyncio.get_running_loop()
        while True:
            depths = await self._depths()
            dead = depths["dead"].ready if "dead" in depths else 0
            if not self._markers and not dead:
                return True
            waits_for = sorted({marker.queue for marker in self._markers.values()})
            held_up = [f"{queue} ({depths[queue].ready:,} messages)" for queue in waits_for if queue in depths]
            archiving = f"{dead:,} messages in the dead-letter queue are not archived"
            self.hindrance = f"still waiting in {', '.join(held_up)}" if held_up else archiving
            # A marker that is in no queue has been purged with the others.
            waiting = set(self._markers.values())
            for way in waiting:
                if not all(place in depths for place in way.places):
                    raise _Disturbed(f"{' or '.join(way.places)} was removed")
                # Counted from one call to the next: the clock's are shorter than the time it takes to be sure.
                self._gone[way] += not any(depths[place].ready for place in way.places)
                if self._gone[way] * POLL_S > ASK_AGAIN_S:
                    raise _Disturbed(f"the marker in {way.queue} was lost")
            if loop.time() >= deadline:
                return False
            if loop.time() - self._put_at > ANOTHER_MARKER_S:
                await self._put_markers(list(waiting))
            self._check()
            await asyncio.sleep(POLL_S)

    async def _call_the_roll_again(self) -> None:
        answers = await self._call_the_roll()
        before = self._workers or {}
        for worker, losses in before.items():
            if answers[worker].losses != losses:
                raise _Disturbed("a worker has lost a channel")
        if any(answers[worker].losses for worker in self._joined - before.keys()):
            raise _Disturbed("a worker has lost a channel")
        if not all(answer.whole for answer in answers.values()):
            raise _Disturbed("more messages were put back than a worker remembers")
        self.held = _held(answers)

    async def _call_the_roll(self) -> dict[str, Present]:
        """Everybody's answer, by worker.

        Raises:
          _Disturbed: somebody does not answer.
        """
        loop = asyncio.get_running_loop()
        deadline = loop.time() + CALL_TIMEOUT_S
        while loop.time() < deadline:
            self._call, self._answers = uuid4().hex, {}
            since_s = loop.time() - self._began + PUT_BACK_BEFORE_S
            try:
                await self._control.tell_all(RollCall(self._call, self._control.queue_of(self._name), since_s))
            except NotConfirmed as error:
                raise SearchLost(f"the roll can't be called: {error}") from error
            again = min(loop.time() + ASK_AGAIN_S, deadline)
            while loop.time() < again:
                self._check()
                expected = self._expected(await self._depths())
                answered = Counter(queue for answer in self._answers.values() for queue in answer.consumes)
                if answered == expected and self._known() <= self._answers.keys():
                    return dict(self._answers)
                self.hindrance = _absent(expected, answered)
                await asyncio.sleep(POLL_S)
        raise _Disturbed(self.hindrance)

    def _known(self) -> set[str]:
        return {*(self._workers or ()), *self._joined}

    def _knows(self, depths: Mapping[str, Depth]) -> bool:
        return all(queue in depths for queue in self._queues)

    @staticmethod
    def _expected(depths: Mapping[str, Depth]) -> Counter[str]:
        return Counter({queue: depth.consumers for queue, depth in depths.items() if depth.consumers})

    def _check(self) -> None:
        if self._channel is None or not self._channel.is_open:
            raise SearchLost("the connection was lost during the search")

    def _hear(self, note: Note) -> None:
        match note:
            case Joined():
                self._joined.add(note.worker)
            case Present() if note.number == self._call:
                self._answers[note.worker] = note
            case MarkerOut() if note.marker in self._markers:
                # What another one would have said, it has said as well.
                way = self._markers[note.marker]
                self._markers = {name: other for name, other in self._markers.items() if other != way}


def _held(answers: Mapping[str, Present]) -> frozenset[Part]:
    return frozenset(part for answer in answers.values() for part in (*answer.held, *answer.put_back))


def _absent(expected: Counter[str], answered: Counter[str]) -> str:
    silent = [f"{queue} ({count} of {expected[queue]})" for queue, count in sorted((expected - answered).items())]
    if silent:
        return f"consumers that do not answer: {', '.join(silent)}; a worker of an older version?"
    return "workers come and go"
