"""A client for a test's server, closed when the test is over, and answers without a server."""

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import httpx

from connectors.http.answer import Answer, answer_of
from connectors.http.client import HttpClient, HttpConfig


@asynccontextmanager
async def calling(url: str, **options: Any) -> AsyncIterator[HttpClient]:
    """Settings of `HttpConfig` and arguments of `HttpClient` in one; waits between attempts last a millisecond."""
    settings = {name: options.pop(name) for name in tuple(options) if name in HttpConfig.__struct_fields__}
    client = HttpClient(HttpConfig(**{"name": "erp", "base_url": url, "backoff_first_ms": 1, **settings}), **options)
    try:
        yield client
    finally:
        await client.close()


def answer(status: int, body: Any, headers: dict[str, str] | None = None) -> Answer:
    # A body given as text is JSON or a page; nothing says which, as with some of these systems.
    kind = "application/json" if isinstance(body, dict | list) else "text/html"
    content = json.dumps(body) if isinstance(body, dict | list) else body
    request = httpx.Request("POST", "https://erp.example.org/x")
    return answer_of(
        httpx.Response(status, headers={"Content-Type": kind, **(headers or {})}, content=content, request=request)
    )
