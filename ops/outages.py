"""While an embedded process works: which targets are down, and whether anything is left but to wait for them."""

import asyncio
from collections.abc import Callable, Sequence
from datetime import datetime, timedelta
from typing import TYPE_CHECKING

import msgspec

from broker.embedded import EmbeddedBroker
from connectors.http.standing import Snapshot
from pipeline.errors import TransientError
from pipeline.states import IN_DOUBT, IN_FLIGHT, POSTED
from store.outbox import OutboxRow
from store.record_states import count_in

if TYPE_CHECKING:
    from connectors.http.guard import Guard
    from ops.bootstrap import Engine

#: Hears the name of a target and why it is down; no reason: it is up again.
Down = Callable[[str, str], None]

look_every_s = 0.2
#: What waits for a target that has failed for so long is left to a process that stays.
patience = timedelta(minutes=5)
#: On their way; what a target holds as a draft waits for a person.
MOVING = (IN_FLIGHT, IN_DOUBT, POSTED)


class _Known(msgspec.Struct):
    """A target's guard: its last error `before` we came, and when it `failed_at` first in the outage that lasts."""

    before: datetime | None
    failed_at: datetime | None = None
    reason: str = ""


class Outages:
    """Looks at the targets of an embedded engine for as long as it is entered; `tell` hears of those that fail."""

    def __init__(self, engine: "Engine", tell: Down | None = None) -> None:
        self._engine, self._tell = engine, tell
        # By guard: one that is set up anew meanwhile is another one.
        self._known: dict[Guard, _Known] = {}
        self._given_up: set[str] = set()
        self._watching: asyncio.Task[None] | None = None

    async def __aenter__(self) -> "Outages":
        await self._look()
        self._watching = asyncio.create_task(self._watch())
        return self

    async def __aexit__(self, raised: type[BaseException] | None, *_: object) -> None:
        assert self._watching is not None
        self._watching.cancel()
        await asyncio.wait((self._watching,))
        if raised is None:
            await self._look()

    async def publish(self, rows: Sequence[OutboxRow]) -> None:
        """`Engine.publish_when_room`, as long as there is room, or a prospect of it.

        Raises:
          TransientError: there is none; the rows stay owed. And what that raises.
        """
        publishing = asyncio.ensure_future(self._engine.publish_when_room(rows))
        try:
            while not (await asyncio.wait((publishing,), timeout=look_every_s))[0]:
                if self._broker.full and await self.stalled():
                    raise TransientError(f"all that is under way waits for {', '.join(self.waited_for())}")
            publishing.result()
        finally:
            publishing.cancel()
            await asyncio.wait((publishing,))

    async def stalled(self) -> bool:
        """Whether all that is left waits for targets that can't be opened or have failed for too long, or for people
        who look after drafts: to sit here longer is to no avail.
        """
        if self._watching is not None and self._watching.done():
            self._watching.result()  # It only ends by failing: nobody would notice any more.
        waits_for = self._broker.waits_for()
        if not waits_for:
            return False
        to_no_avail = waits_for <= {*self._engine.connected.unopened, *self._given_up}
        return to_no_avail or not await count_in(self._engine.db, MOVING)

    def waited_for(self) -> dict[str, str]:
        """The targets that all that is left waits for, and why; none while anything is worked on."""
        connected = self._engine.connected
        down = {name: self._known[guard].reason for name, guard in connected.guards.items() if guard in self._known}
        reasons = {name: reason for name, reason in {**down, **connected.unopened}.items() if reason}
        return {name: reasons[name] for name in sorted(self._broker.waits_for()) if name in reasons}

    @property
    def _broker(self) -> EmbeddedBroker:
        assert isinstance(self._engine.broker, EmbeddedBroker), "only an embedded engine knows what is left"
        return self._engine.broker

    async def _watch(self) -> None:
        while True:
            await asyncio.sleep(look_every_s)
            await self._look()

    async def _look(self) -> None:
        given_up = set()
        for name, guard in list(self._engine.connected.guards.items()):
            standing = await guard.snapshot()
            known = self._known.setdefault(guard, _Known(standing.last_error_at))
            self._note(name, known, standing)
            if known.failed_at and standing.last_error_at and standing.last_error_at - known.failed_at > patience:
                given_up.add(name)
        self._given_up = given_up

    def _note(self, name: str, known: _Known, standing: Snapshot) -> None:
        """Tell when it has failed since we look, and when it is up again."""
        if standing.down_since is None:
            if known.failed_at is not None and self._tell is not None:
                self._tell(name, "")
            known.failed_at, known.reason = None, ""
        elif standing.last_error_at != known.before:
            known.reason = standing.last_error or f"{name} does not answer"
            if known.failed_at is None:
                known.failed_at = standing.last_error_at
                if self._tell is not None:
                    self._tell(name, known.reason)
