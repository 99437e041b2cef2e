"""Lists of any length, to their end and no further."""

from typing import Any

import pytest
from msgspec.structs import replace

from connectors.http.paging import Ask, Keyset, LimitOffset, NextLink, PageNumber, Paging, walk
from pipeline.errors import TransientError
from tests.unit.connectors.http.calling import calling
from tests.unit.connectors.http.server import Handler, Reply, Request, serving

ROWS = [{"id": number} for number in range(1, 8)]


async def walked(handler: Handler, paging: Paging, ask: Ask | None = None) -> tuple[list[Any], list[Request]]:
    async with serving(handler) as server, calling(server.url + "/api") as client:
        items = [item async for item in walk(client, paging, ask or Ask(path="rows"))]
    return items, server.requests


def limited(cap: int = 1000, rows: list[Any] = ROWS, **more: Any) -> Handler:
    """Limit and offset, pages capped; what is in `more` is added to each answer, called with its offset and page."""

    def handler(request: Request) -> Reply:
        offset, limit = int(request.query["offset"]), int(request.query["limit"])
        page = rows[offset : offset + min(limit, cap)]
        return Reply(body={"items": page, **{name: value(offset, page) for name, value in more.items()}})

    return handler


LINKED = {
    "absolute": (
        NextLink(items="/value", next=("/@odata.nextLink",)),
        "value",
        lambda url, n: {"@odata.nextLink": url},
    ),
    "relative": (
        NextLink(items="/records", next=("/nextRecordsUrl",)),
        "records",
        lambda url, n: {"nextRecordsUrl": f"/api/rows?after={n}"},
    ),
    "among links": (
        NextLink(items="/items", links="/links", total="/totalResults"),
        "items",
        lambda url, n: {"links": [{"rel": "self", "href": "/x"}, {"rel": "next", "href": url}], "totalResults": 7},
    ),
}


@pytest.mark.parametrize("where", LINKED)
async def test_next_links_are_followed_to_the_end(where):
    paging, name, link = LINKED[where]

    def handler(request: Request) -> Reply:
        start = int(request.query.get("after", 0))
        url = f"http://{request.headers['host']}/api/rows?after={start + 3}"
        more = link(url, start + 3) if start + 3 < len(ROWS) else {}
        return Reply(body={name: ROWS[start : start + 3], **more})

    items, requests = await walked(handler, paging, Ask(path="rows", params={"q": "all"}))
    assert items == ROWS
    assert [request.query for request in requests] == [{"q": "all"}, {"after": "3"}, {"after": "6"}]
    assert {request.path for request in requests} == {"/api/rows"}


async def test_a_link_inside_an_envelope_is_found_and_an_empty_page_is_passed():
    pages = {"": ([1], "2"), "2": ([], "3"), "3": ([2], None)}

    def handler(request: Request) -> Reply:
        results, after = pages[request.query.get("t", "")]
        return Reply(body={"d": {"results": results, **({"__next": f"rows?t={after}"} if after else {})}})

    assert (await walked(handler, NextLink(items="/d/results", next=("/d/__next",))))[0] == [1, 2]


@pytest.mark.parametrize("back_to", ["rows?p=1", "rows?p=2", "rows"])
async def test_next_links_that_lead_back_are_refused(back_to):
    def handler(request: Request) -> Reply:
        page = int(request.query.get("p", 0))
        return Reply(body={"items": [page], "next": f"rows?p={page + 1}" if page < 2 else back_to})

    with pytest.raises(TransientError, match="leads back to a page that was read"):
        await walked(handler, NextLink(items="/items", next=("/next",)))


OFFSETS = {
    "by a flag": (LimitOffset(items="/items", size=3, more="/hasMore"), {"hasMore": lambda o, p: o + len(p) < 7}, 3),
    "by a total": (LimitOffset(items="/items", size=3, total="/total"), {"total": lambda o, p: 7}, 3),
    "by an empty page": (LimitOffset(items="/items", size=3), {}, 4),
    "by a short page": (LimitOffset(items="/items", size=3, short_ends=True), {}, 3),
}


@pytest.mark.parametrize("end", OFFSETS)
async def test_offsets_move_to_the_end(end):
    paging, more, calls = OFFSETS[end]
    items, requests = await walked(limited(**more), paging)
    assert items == ROWS
    assert len(requests) == calls


async def test_a_target_that_caps_its_pages_loses_nothing():
    items, requests = await walked(limited(cap=2), LimitOffset(items="/items", size=100))
    assert items == ROWS
    assert [request.query["offset"] for request in requests] == ["0", "2", "4", "6", "7"]


async def test_an_empty_list_is_no_items():
    assert (await walked(limited(rows=[]), LimitOffset(items="/items", size=3)))[0] == []
    counted = LimitOffset(items="/items", size=3, total="/total")
    assert (await walked(limited(rows=[], total=lambda o, p: 0), counted))[0] == []


STUCK = {
    "an offset that is ignored": (
        lambda request: Reply(body={"items": ROWS}),
        LimitOffset(items="/items", size=7),
        "the same page came again",
    ),
    "more and nothing": (
        lambda request: Reply(body={"items": [], "hasMore": True}),
        LimitOffset(items="/items", size=7, more="/hasMore"),
        "nothing comes",
    ),
    "fewer than there are": (
        limited(rows=ROWS[:4], total=lambda o, p: 9),
        LimitOffset(items="/items", size=3, total="/total"),
        "ends after 4 items, and says it has 9",
    ),
    "a page number that is ignored": (
        lambda request: Reply(body={"items": ROWS, "pages": 9}),
        PageNumber(items="/items", size=7, pages="/pages"),
        "the same page came again",
    ),
    "a page without items": (lambda request: Reply(body={"rows": []}), PageNumber(items="/items", size=7), "no list"),
    "items that are none": (lambda request: Reply(body={"items": {}}), LimitOffset(items="/items", size=7), "no list"),
    "an empty answer": (lambda request: Reply(), LimitOffset(items="/items", size=7), "no list at /items"),
}


@pytest.mark.parametrize("how", STUCK)
async def test_a_walk_that_leads_nowhere_is_no_end_of_the_list(how):
    handler, paging, words = STUCK[how]
    with pytest.raises(TransientError, match=words):
        await walked(handler, paging)


async def test_offsets_that_must_be_multiples_of_the_limit_are():
    # What the target hides after counting it leaves a gap in the page, not at its end.
    def handler(request: Request) -> Reply:
        page = [row for row in ROWS[int(request.query["offset"]) :][:3] if row["id"] != 2]
        return Reply(body={"data": page, "meta": {"totalRows": 7}})

    paging = LimitOffset(items="/data", size=3, total="/meta/totalRows", by_size=True)
    items, requests = await walked(handler, paging)
    assert [item["id"] for item in items] == [1, 3, 4, 5, 6, 7]
    assert [request.query["offset"] for request in requests] == ["0", "3", "6"]


NUMBERED = {
    "by the count of pages": (PageNumber(items="/r", size=3, pages="/meta/page_count"), 3),
    "by the count in a header": (PageNumber(items="/r", size=3, pages="header:X-Total-Pages"), 3),
    "by the count of items": (PageNumber(items="/r", size=3, total="/count"), 3),
    "by an empty page": (PageNumber(items="/r", size=3), 4),
}


@pytest.mark.parametrize("end", NUMBERED)
async def test_pages_are_counted_to_the_end(end):
    paging, calls = NUMBERED[end]

    def handler(request: Request) -> Reply:
        start = (int(request.query["page"]) - 1) * int(request.query["per_page"])
        body = {"r": ROWS[start : start + 3], "count": 7, "meta": {"page_count": 3}}
        return Reply(body=body, headers={"X-Total-Pages": "3"})

    items, requests = await walked(handler, paging)
    assert items == ROWS
    assert [request.query["page"] for request in requests] == [str(number) for number in range(1, calls + 1)]


def after_id(ask: Ask, last: Any) -> Ask:
    return replace(ask, json={**ask.json, "domain": [["id", ">", last["id"]]]})


async def test_keys_move_to_the_end_in_the_body_of_a_search():
    def handler(request: Request) -> Reply:
        after = next((term[2] for term in request.json()["domain"]), 0)
        return Reply(body=[row for row in ROWS if row["id"] > after][:3])

    paging = Keyset(items="", key=lambda row: row["id"], after=after_id)
    ask = Ask(method="POST", path="json/2/account.move/search_read", json={"domain": [], "limit": 3})
    items, requests = await walked(handler, paging, ask)
    assert items == ROWS
    assert len(requests) == 4
    assert requests[1].json() == {"domain": [["id", ">", 3]], "limit": 3}


async def test_a_key_that_does_not_move_is_refused():
    paging = Keyset(items="", key=lambda row: row["id"], after=after_id)
    with pytest.raises(TransientError, match="the key does not move beyond 7"):
        await walked(lambda request: Reply(body=ROWS), paging, Ask(method="POST", path="s", json={"domain": []}))


async def test_pages_are_asked_for_as_they_are_consumed():
    async with serving(limited()) as server, calling(server.url) as client:
        steps = walk(client, LimitOffset(items="/items", size=2), Ask(path="/rows"))
        assert [(await anext(steps))["id"], (await anext(steps))["id"]] == [1, 2]
        assert len(server.requests) == 1
        await anext(steps)
        assert len(server.requests) == 2
        await steps.aclose()


async def test_a_page_that_is_lost_is_asked_for_again():
    lost = []

    def handler(request: Request) -> Reply:
        if request.query["offset"] == "2" and not lost:
            lost.append(request)
            return Reply(status=503)
        return limited()(request)

    items, requests = await walked(handler, LimitOffset(items="/items", size=2))
    assert items == ROWS
    assert [request.query["offset"] for request in requests] == ["0", "2", "2", "4", "6", "7"]
