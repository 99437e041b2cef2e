"""What has been looked up is kept for a while; what was not there is asked for again."""

import time
from collections.abc import Awaitable, Callable, Collection, Iterable, Mapping
from typing import Generic, TypeVar

Key = TypeVar("Key")
Value = TypeVar("Value")

#: Long enough for a flood of documents, short enough that a change in Tryton needs no restart.
kept_s = 600.0
kept_count_max = 50_000


class Kept(Generic[Key, Value]):
    """Answers of `fetch` by key. `fetch` is given at most `bulk_max` keys, and leaves out what is not there.

    `keeps`: whether an answer is kept, and not asked for again each time.
    """

    def __init__(
        self,
        fetch: Callable[[list[Key]], Awaitable[Mapping[Key, Value]]],
        bulk_max: int,
        clock: Callable[[], float] = time.monotonic,
        keeps: Callable[[Value], bool] = lambda value: True,
    ) -> None:
        self._fetch, self._bulk_max, self._clock, self._keeps = fetch, bulk_max, clock, keeps
        self._values: dict[Key, tuple[Value, float]] = {}

    async def of(self, keys: Iterable[Key]) -> dict[Key, Value]:
        """The values of those keys that have one. Raises what `fetch` raises."""
        wanted, now = dict.fromkeys(keys), self._clock()
        found = {key: kept[0] for key in wanted if (kept := self._values.get(key)) and now - kept[1] < kept_s}
        missing = [key for key in wanted if key not in found]
        for start in range(0, len(missing), self._bulk_max):
            fetched = await self._fetch(missing[start : start + self._bulk_max])
            self._keep(fetched, now)
            found |= fetched
        return found

    def forget(self, keys: Collection[Key]) -> None:
        """Ask anew next time."""
        for key in keys:
            self._values.pop(key, None)

    def _keep(self, fetched: Mapping[Key, Value], now: float) -> None:
        for key, value in fetched.items():
            self._values.pop(key, None)
            if self._keeps(value):
                self._values[key] = value, now
        while len(self._values) > kept_count_max:
            self._values.pop(next(iter(self._values)))
