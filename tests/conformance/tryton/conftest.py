"""Servers of both series, shared by the session: what a test counts it counts under a target name of its own."""

import itertools
from collections.abc import AsyncIterator, Callable, Iterator
from typing import Any

import pytest

from connectors.tryton import TrytonTarget
from tests.conformance.tryton.masters import opened
from tests.erp.calls import Caller
from tryton import Tryton, tryton
from tryton_cache import SERIES

_numbers = itertools.count(1)

Open = Callable[..., TrytonTarget]


@pytest.fixture(scope="session")
def newer_erp(prepared_erp: None) -> Iterator[Tryton]:
    """A server of the series that refuses keys set by a client."""
    with tryton(SERIES[1]) as server:
        yield server


@pytest.fixture(params=["erp", "newer_erp"])
def server(request: pytest.FixtureRequest) -> Tryton:
    found: Tryton = request.getfixturevalue(request.param)
    return found


@pytest.fixture
def name() -> str:
    """Of a target that no other test has."""
    return f"tryton{next(_numbers)}"


@pytest.fixture
async def open_target(server: Tryton, name: str) -> AsyncIterator[Open]:
    """Opens targets over the server, and closes them in the end."""
    targets: list[TrytonTarget] = []

    def open_target(**settings: Any) -> TrytonTarget:
        targets.append(opened(server, **{"name": name} | settings))
        return targets[-1]

    yield open_target
    for target in targets:
        await target.close()


@pytest.fixture
def target(open_target: Open) -> TrytonTarget:
    return open_target()


@pytest.fixture
def call(server: Tryton) -> Iterator[Caller]:
    caller = Caller(server)
    yield caller
    caller.close()


@pytest.fixture
def admin(server: Tryton) -> Iterator[Caller]:
    """Somebody who may do everything, as an accountant may."""
    caller = Caller(server, "admin")
    yield caller
    caller.close()
