"""Paging: a list of any length, item by item, a page in memory at a time; never for ever, and never cut short unseen.

Where a target's pages can't be trusted to be the whole list (no items where they should be, a page that comes again,
fewer items than it says it has), the walk ends with a TransientError instead of ending as if that were all.
"""

import hashlib
from collections.abc import AsyncIterator, Callable, Hashable
from typing import Any, Protocol
from urllib.parse import urljoin

import msgspec
from msgspec.structs import replace

from connectors.http.answer import Answer
from connectors.http.client import HttpClient
from connectors.http.pointers import first, values
from pipeline.errors import TransientError

#: More pages than any list of ours has: a walk that is still going by then goes nowhere.
pages_max = 100_000


class Ask(msgspec.Struct, frozen=True, kw_only=True):
    """The request of one page. A POST that only searches is fine."""

    path: str
    method: str = "GET"
    params: dict[str, Any] = {}
    json: Any = None
    headers: dict[str, str] = {}


class Paging(Protocol):
    """A strategy: where the items are, and how the next page is asked for."""

    items: str

    def start(self) -> "Steps":
        """The steps of one walk, which remembers where it has been."""


class Steps(Protocol):
    """One walk's way through the pages."""

    def first(self, ask: Ask) -> Ask:
        """The request of the first page."""

    def next(self, ask: Ask, answer: Answer, items: list[Any]) -> Ask | None:
        """The request after this one and its answer, None at the end. Raises Astray where there can't be one."""


class Astray(Exception):
    """The pages lead nowhere, or do not add up."""


async def walk(client: HttpClient, paging: Paging, ask: Ask) -> AsyncIterator[Any]:
    """Every item of the list, asked for page by page as they are consumed.

    Raises:
      TransientError: a page is missing its items, comes a second time, or the list ends before its own count.
      And what `HttpClient.call` raises.
    """
    steps = paging.start()
    current: Ask | None = steps.first(ask)
    name = client.config.name
    for number in range(1, pages_max + 1):
        if current is None:
            return
        answer = await client.call(
            current.method,
            current.path,
            params=current.params,
            json=current.json,
            headers=current.headers,
            writes=False,
        )
        items = _items(answer, paging.items)
        if items is None:
            raise TransientError(f"{name}: page {number} of {ask.path} has no list at {paging.items or 'its top'}")
        for item in items:
            yield item
        try:
            current = steps.next(current, answer, items)
        except Astray as error:
            raise TransientError(f"{name}: after page {number} of {ask.path}: {error}") from None
    if current is not None:
        raise TransientError(f"{name}: {ask.path} has more than {pages_max} pages")


def _items(answer: Answer, pointer: str) -> list[Any] | None:
    found = values(answer.body, pointer)
    return found[0] if len(found) == 1 and isinstance(found[0], list) else None


def number_at(answer: Answer, place: str | None) -> int | None:
    """A count at a JSON pointer of the body, or in the header `header:X-Total-Pages`; SAP writes numbers as strings."""
    if place is None:
        return None
    name = place.removeprefix("header:")
    value = answer.headers.get(name) if name != place else first(answer.body, (place,))
    try:
        return int(str(value))
    except ValueError:
        return None


class Seen:
    """Notices a page that comes a second time in a row: the target does not heed what it was asked for."""

    def __init__(self) -> None:
        self._last = b""
        self.count = 0

    def add(self, items: list[Any]) -> None:
        self.count += len(items)
        page = _digest(msgspec.json.encode(items))
        if items and page == self._last:
            raise Astray("the same page came again")
        self._last = page

    def end(self, total: int | None) -> None:
        if total is not None and self.count < total:
            raise Astray(f"the list ends after {self.count} items, and says it has {total}")


def _digest(data: bytes) -> bytes:
    return hashlib.blake2b(data, digest_size=16).digest()


class NextLink(msgspec.Struct, frozen=True, kw_only=True):
    """The answer names the next page: at one of the pointers `next`, or in a list of links (`rel`, `href`).

    A link may be relative to the page it stands on. Its query is whole: ours is not added again.
    """

    items: str
    next: tuple[str, ...] = ()
    links: str | None = None
    total: str | None = None

    def start(self) -> Steps:
        return _Linked(self)


class _Linked:
    def __init__(self, paging: NextLink) -> None:
        self._paging = paging
        self._read: set[bytes] = set()
        self._seen = Seen()

    def first(self, ask: Ask) -> Ask:
        return ask

    def next(self, ask: Ask, answer: Answer, items: list[Any]) -> Ask | None:
        self._seen.add(items)
        link = first(answer.body, self._paging.next) or self._related(answer)
        if not isinstance(link, str):
            self._seen.end(number_at(answer, self._paging.total))
            return None
        address = urljoin(answer.url, link)
        self._read.add(_digest(answer.url.encode()))
        if _digest(address.encode()) in self._read:
            raise Astray("the next link leads back to a page that was read")
        return replace(ask, path=address, params={})

    def _related(self, answer: Answer) -> Any:
        if self._paging.links is None:
            return None
        for link in values(answer.body, f"{self._paging.links}/*"):
            if isinstance(link, dict) and link.get("rel") == "next":
                return link.get("href")
        return None


class LimitOffset(msgspec.Struct, frozen=True, kw_only=True):
    """Pages of `size` from an offset. Ends by `more` (a flag) or `total` (see `number_at`) where they are declared.

    Without either it ends at an empty page, or already at a short one if `short_ends`: say so only where the target
    never gives fewer than it is asked for, since one that caps its pages would lose all but the first.
    `by_size`: the offset moves by `size`, not by what came, for a target that hides items after counting them or
    wants multiples of the limit (OpenAir).
    """

    items: str
    size: int
    limit_name: str = "limit"
    offset_name: str = "offset"
    total: str | None = None
    more: str | None = None
    short_ends: bool = False
    by_size: bool = False

    def start(self) -> Steps:
        return _Offsets(self)


class _Offsets:
    def __init__(self, paging: LimitOffset) -> None:
        self._paging = paging
        self._seen = Seen()

    def first(self, ask: Ask) -> Ask:
        return replace(
            ask, params={**ask.params, self._paging.limit_name: self._paging.size, self._paging.offset_name: 0}
        )

    def next(self, ask: Ask, answer: Answer, items: list[Any]) -> Ask | None:
        paging, at = self._paging, ask.params[self._paging.offset_name]
        self._seen.add(items)
        after = at + (paging.size if paging.by_size else len(items))
        total = number_at(answer, paging.total)
        if not self._goes_on(answer, items, after, total):
            if not paging.by_size:
                self._seen.end(total)
            return None
        if after == at:
            raise Astray(f"there is said to be more after offset {at}, and nothing comes")
        return replace(ask, params={**ask.params, paging.offset_name: after})

    def _goes_on(self, answer: Answer, items: list[Any], after: int, total: int | None) -> bool:
        paging = self._paging
        if paging.more is not None:
            return first(answer.body, (paging.more,)) in (True, "true", "True")
        if total is not None:
            return after < total and (bool(items) or paging.by_size)
        return bool(items) and not (paging.short_ends and len(items) < paging.size)


class PageNumber(msgspec.Struct, frozen=True, kw_only=True):
    """Numbered pages of `size`. Ends by `pages` (their count) or `total` (of items, `number_at`), else when empty."""

    items: str
    size: int
    page_name: str = "page"
    size_name: str = "per_page"
    number_first: int = 1
    pages: str | None = None
    total: str | None = None

    def start(self) -> Steps:
        return _Numbers(self)


class _Numbers:
    def __init__(self, paging: PageNumber) -> None:
        self._paging = paging
        self._seen = Seen()

    def first(self, ask: Ask) -> Ask:
        paging = self._paging
        return replace(ask, params={**ask.params, paging.size_name: paging.size, paging.page_name: paging.number_first})

    def next(self, ask: Ask, answer: Answer, items: list[Any]) -> Ask | None:
        paging, number = self._paging, ask.params[self._paging.page_name]
        self._seen.add(items)
        pages, total = number_at(answer, paging.pages), number_at(answer, paging.total)
        if pages is not None:
            goes_on = number - paging.number_first + 1 < pages
        elif total is not None:
            goes_on = self._seen.count < total and bool(items)
        else:
            goes_on = bool(items)
        if not goes_on:
            self._seen.end(total)
            return None
        return replace(ask, params={**ask.params, paging.page_name: number + 1})


class Keyset(msgspec.Struct, frozen=True, kw_only=True):
    """The next page begins after the last item: stable while rows come and go, where the order is by the key.

    `after` makes the request that follows an item, from the first request; `key` is what it is ordered by, unique
    (an id, or a time and an id). Ends at an empty page.
    """

    items: str
    key: Callable[[Any], Hashable]
    after: Callable[[Ask, Any], Ask]

    def start(self) -> Steps:
        return _Keys(self)


class _Keys:
    def __init__(self, paging: Keyset) -> None:
        self._paging = paging
        self._first: Ask | None = None
        self._last: Hashable = None

    def first(self, ask: Ask) -> Ask:
        self._first = ask
        return ask

    def next(self, ask: Ask, answer: Answer, items: list[Any]) -> Ask | None:
        if not items or self._first is None:
            return None
        last = self._paging.key(items[-1])
        if last == self._last:
            raise Astray(f"the key does not move beyond {last!r}")
        self._last = last
        return self._paging.after(self._first, items[-1])
