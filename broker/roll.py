"""The roll: a worker remembers what it has in hand, and says so when the roll is called (`broker.control`)."""

import asyncio
import time
from collections import deque
from collections.abc import Callable, Coroutine, Iterable
from contextlib import suppress
from typing import Any
from uuid import uuid4

from loguru import logger

from broker.connection import AmqpChannel, AmqpConnection, ConnectionLost
from broker.control import (
    REPLY_TO,
    Control,
    Joined,
    LiveAtWork,
    MarkerOut,
    Note,
    Part,
    Present,
    RollCall,
    parts_in,
)
from broker.delivery import NotConfirmed, Outgoing
from broker.precedence import Precedence

#: Records of messages put back that a worker remembers, and for how long; beyond, it says that it has forgotten some.
PUT_BACK_MAX = 50_000
PUT_BACK_S = 900.0


class Roll:
    """A worker's side. `hands` holds, by consumer, the deliveries that are not settled, by their tags."""

    def __init__(self, control: Control, consumes: Callable[[], Iterable[str]]) -> None:
        self.worker = uuid4().hex
        self.losses = 0
        self.hands: dict[Any, dict[int, Outgoing]] = {}
        self._control = control
        self._consumes = consumes
        self.precedence = Precedence(lambda: self._spawn(self._tell_all(LiveAtWork())))
        self._put_back: deque[tuple[float, tuple[Part, ...]]] = deque()
        self._remembered = 0
        self._forgot_at = float("-inf")
        self._works = False
        self._joined = False
        self._seated = asyncio.Lock()
        self._has_seat = False
        self._tasks: set[asyncio.Task[None]] = set()

    def lost(self, consumer: Any) -> None:
        """The consumer's channel is gone: what came through it is somebody else's."""
        self.losses += 1
        self.hands[consumer] = {}

    def put_back(self, message: Outgoing) -> None:
        """A message is about to leave our hands without the ledger hearing of it."""
        now, parts = time.monotonic(), parts_in(message.body)
        self._put_back.append((now, parts))
        self._remembered += len(parts)
        while self._put_back[0][0] < now - PUT_BACK_S or self._remembered > PUT_BACK_MAX:
            self._forgot_at, forgotten = self._put_back.popleft()
            self._remembered -= len(forgotten)
            if not self._put_back:
                return

    async def join(self, connection: AmqpConnection) -> None:
        """Make sure, before anything is consumed on this connection, that we hear when the roll is called."""
        if self._has_seat and not self._works:
            self._spawn(self._tell_all(Joined(self.worker)))
        self._works = True
        await self.listen(connection)

    async def listen(self, connection: AmqpConnection) -> None:
        """Hear what is told to all; who has not joined does not answer for anything."""
        self._joined = True
        async with self._seated:
            with suppress(ConnectionLost):  # `take_seat_again` has its turn then
                channel = await connection.channel()
                if not self._has_seat:
                    await self._take_seat(connection, channel)

    async def take_seat_again(self, connection: AmqpConnection) -> None:
        """Belongs into the connection's `on_open`: nobody gets a channel of it before this is done."""
        self._has_seat = False
        if self._joined:
            await self._take_seat(connection, await connection.channel_now())

    async def _take_seat(self, connection: AmqpConnection, channel: AmqpChannel) -> None:
        """Listen, at a place of its own each time: the server may not know yet that the last connection is gone.

        Where the server does not allow it we work all the same, and recovery says that we do not answer."""
        self._has_seat = True
        try:
            await self._control.listen(channel, f"{self.worker}.{uuid4().hex[:8]}", self._hear)
        except ConnectionLost as error:
            logger.bind(event="not_on_the_roll").error("can't answer when the roll is called: {}", error)
            return
        channel.closed.add_done_callback(lambda _: connection.restart())
        if self._works:
            self._spawn(self._tell_all(Joined(self.worker)))

    def marker_arrived(self, marker: Outgoing, acknowledge: Callable[[], None]) -> None:
        """Say so, then acknowledge. When it can't be said it is acknowledged all the same: another one will follow."""
        self._spawn(self._pass_on(marker, acknowledge))

    async def aclose(self) -> None:
        for task in tuple(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def _hear(self, note: Note) -> None:
        if isinstance(note, RollCall) and self._works:
            self._spawn(self._tell(note.reply_to, self._present(note)))
        elif isinstance(note, LiveAtWork):
            self.precedence.heard()

    def _present(self, call: RollCall) -> Present:
        since = time.monotonic() - call.since_s
        held = (message for hand in self.hands.values() for message in hand.values())
        return Present(
            number=call.number,
            worker=self.worker,
            consumes=tuple(self._consumes()),
            losses=self.losses,
            held=tuple({part for message in held for part in parts_in(message.body)}),
            put_back=tuple({part for at, parts in self._put_back if at >= since for part in parts}),
            whole=self._forgot_at < since,
        )

    async def _pass_on(self, marker: Outgoing, acknowledge: Callable[[], None]) -> None:
        try:
            await self._tell(str(marker.headers.get(REPLY_TO, "")), MarkerOut(marker.message_id))
        finally:
            acknowledge()

    async def _tell(self, queue: str, note: Note) -> None:
        try:
            await self._control.tell(queue, note)
        except NotConfirmed as error:
            logger.bind(event="nobody_listens").debug("{}: {}", queue, error)

    async def _tell_all(self, note: Note) -> None:
        try:
            await self._control.tell_all(note)
        except NotConfirmed as error:
            logger.bind(event="nobody_listens").debug("{}", error)

    def _spawn(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
