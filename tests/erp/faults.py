"""The fault proxy before a Tryton server: it knows how to end a session there."""

import json
from collections.abc import Iterator
from contextlib import contextmanager

from tests.faults.exchange import Request
from tests.faults.fates import Predicate
from tests.faults.plan import FaultPlan
from tests.faults.proxy import FaultProxy, fault_proxy
from tryton import Tryton


def logout(request: Request) -> Request | None:
    """The log-out of the session that a call belongs to; a log-in belongs to none."""
    headers = dict(request.headers)
    if not headers.get(b"authorization", b"").startswith(b"Session"):
        return None
    body = json.dumps({"id": 0, "method": "common.db.logout", "params": []}).encode()
    kept = tuple((name, headers[name]) for name in (b"host", b"authorization", b"content-type"))
    return Request(method="POST", target=request.target, headers=kept, body=body)


def calls(*methods: str) -> Predicate:
    """Whether a call is one of these methods: `timesheet.line.create`, or just `create` for that of any model."""
    ends = tuple(f".{method}" for method in methods)

    def matches(request: Request) -> bool:
        return request.method == "POST" and json.loads(request.body)["method"].endswith(ends)

    return matches


@contextmanager
def before_tryton(
    server: Tryton, plan: FaultPlan, seed: int, *, disturbs: Predicate = lambda request: True
) -> Iterator[FaultProxy]:
    """A fault proxy before a Tryton server; a connector takes its `url` for the server's."""
    with fault_proxy(server.url, plan, seed, disturbs=disturbs, end_session=logout) as proxy:
        yield proxy
