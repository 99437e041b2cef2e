from collections.abc import Callable
from typing import Any

import pytest

from connectors.http.secrets import Secret
from connectors.tryton.config import TrytonConfig
from connectors.tryton.faults import Gone
from connectors.tryton.rpc import Rpc, page_attempts_max
from pipeline.errors import TransientError
from tests.unit.connectors.http.server import Reply, Request, serving

COMPANY = [{"id": 1, "currency.": {"id": 1, "code": "EUR"}}]
GONE = ["UserError", ['You are trying to read records "6" of "Account Invoice" that don\'t exist.', "", None]]


def tryton_with(search_read: Callable[[], dict[str, Any]]) -> Callable[[Request], Reply]:
    """A server that lets everybody in, and answers like this when invoices are listed."""
    known = {
        "common.db.login": {"result": [1, "session", None]},
        "common.server.version": {"result": "8.0.1"},
        "model.res.user.get_preferences": {"result": {"company": 1}},
        "model.company.company.search_read": {"result": COMPANY},
    }

    def answer(request: Request) -> Reply:
        call = request.json()
        return Reply(body={"id": call["id"], **(known.get(call["method"]) or search_read())})

    return answer


async def listed(url: str) -> list[dict[str, Any]]:
    rpc = Rpc(TrytonConfig(url=url, database="erp", user="tieout", password=Secret("pw")))
    try:
        return [record async for record in rpc.listed("account.invoice", [], ["state"])]
    finally:
        await rpc.close()


async def test_a_page_of_which_something_is_removed_while_it_is_read_is_read_again():
    answers = iter([{"error": GONE}, {"error": GONE}, {"result": [{"id": 7, "state": "draft"}]}])
    async with serving(tryton_with(lambda: next(answers))) as server:
        assert await listed(server.url) == [{"id": 7, "state": "draft"}]


async def test_what_can_not_be_read_because_things_are_removed_all_the_time_is_tried_later():
    async with serving(tryton_with(lambda: {"error": GONE})) as server:
        with pytest.raises(TransientError, match="removed each time") as raised:
            await listed(server.url)
    assert (raised.value.burns_attempt, type(raised.value.__cause__)) == (True, Gone)
    looks = [request for request in server.requests if b"invoice.search_read" in request.body]
    assert len(looks) == page_attempts_max
