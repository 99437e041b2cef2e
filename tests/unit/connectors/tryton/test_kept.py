"""Look-ups are kept for a while; what was not there is asked for again."""

from connectors.tryton import kept
from connectors.tryton.kept import Kept, kept_s


class System:
    def __init__(self, **values: int) -> None:
        self.values, self.asked = values, list[list[str]]()
        self.now = 0.0

    async def fetch(self, keys: list[str]) -> dict[str, int]:
        self.asked.append(keys)
        return {key: self.values[key] for key in keys if key in self.values}

    def kept(self, bulk_max: int = 100) -> Kept[str, int]:
        return Kept(self.fetch, bulk_max, lambda: self.now)


async def test_what_was_found_is_not_asked_for_again_until_its_time_is_over():
    system = System(a=1, b=2)
    cache = system.kept()
    assert await cache.of(["a", "b", "a"]) == {"a": 1, "b": 2}
    system.values["a"] = 10
    assert await cache.of(["a"]) == {"a": 1}
    system.now += kept_s
    assert await cache.of(["a"]) == {"a": 10}
    assert system.asked == [["a", "b"], ["a"]]


async def test_what_was_not_there_is_asked_for_each_time():
    system = System()
    cache = system.kept()
    assert await cache.of(["a"]) == {}
    system.values["a"] = 1
    assert await cache.of(["a"]) == {"a": 1}


async def test_what_is_to_be_forgotten_is():
    system = System(a=1)
    cache = system.kept()
    await cache.of(["a"])
    system.values["a"] = 2
    cache.forget(["a", "never known"])
    assert await cache.of(["a"]) == {"a": 2}


async def test_many_are_asked_for_in_bulks_and_no_more_are_kept_than_there_is_room_for(monkeypatch):
    monkeypatch.setattr(kept, "kept_count_max", 3)
    system = System(**{name: number for number, name in enumerate("abcdefg")})
    cache = system.kept(bulk_max=2)
    assert await cache.of("abcdefg") == system.values
    assert system.asked == [["a", "b"], ["c", "d"], ["e", "f"], ["g"]]
    await cache.of("gfe")
    assert len(system.asked) == 4
    await cache.of("a")
    assert len(system.asked) == 5
