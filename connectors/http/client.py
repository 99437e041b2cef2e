"""The HTTP client of a target: one call, and certainty about what became of it as far as there is any."""

import asyncio
import logging
import random
import ssl
import time
from collections.abc import Callable, Collection, Mapping
from contextlib import AbstractAsyncContextManager, nullcontext
from functools import cache
from http.cookiejar import CookieJar, DefaultCookiePolicy
from typing import Any, Literal

import httpx
import msgspec
from loguru import logger

from connectors.http.answer import Answer, answer_of
from connectors.http.auth import Strategy
from connectors.http.bounded import ACCEPT_ENCODING, BoundedTransport
from connectors.http.errors import COMMON, ErrorShape, Fault, fault_of, item_faults, succeeded
from connectors.http.outcome import LoginFailed, error_for, error_without_answer, retry_after_of
from connectors.http.pointers import first
from connectors.http.secrets import Redactor
from pipeline.codes import IT, TARGET_REFUSED
from pipeline.errors import OutcomeUnknown, PermanentError, TransientError

#: Entered around every request, log-in included; what a request raises goes through it. Throttle and breaker live here.
Gate = Callable[[], AbstractAsyncContextManager[Any]]

#: The methods that change nothing, for a call that does not say.
READING = ("GET", "HEAD", "OPTIONS")


class Timeouts(msgspec.Struct, frozen=True, kw_only=True):
    """How long each part of a call may take. `total_ms` bounds one request whole, a log-in on its way included."""

    connect_ms: int = 5_000
    read_ms: int = 30_000
    write_ms: int = 30_000
    pool_ms: int = 10_000
    total_ms: int = 60_000

    def of_httpx(self) -> httpx.Timeout:
        return httpx.Timeout(
            connect=self.connect_ms / 1000,
            read=self.read_ms / 1000,
            write=self.write_ms / 1000,
            pool=self.pool_ms / 1000,
        )


class HttpConfig(msgspec.Struct, frozen=True, kw_only=True):
    """How a target is called. `name` stands in errors and log lines; `headers` go with every request and hold
    nothing secret: that is what strategies are for.

    `answer_bytes_max` bounds an answer after unpacking. Reads are tried `read_attempts_max` times, the waits between
    doubling from `backoff_first_ms` to `backoff_max_ms`; a target that asks for a longer one is left to the broker.
    `decimals`: whether the target takes Decimal in JSON as a string or as a number.
    """

    name: str
    base_url: str
    headers: dict[str, str] = {}
    timeouts: Timeouts = Timeouts()
    connections_max: int = 10
    answer_bytes_max: int = 16 * 1024 * 1024
    read_attempts_max: int = 4
    backoff_first_ms: int = 200
    backoff_max_ms: int = 5_000
    decimals: Literal["string", "number"] = "string"


class HttpClient:
    """Calls one target. Writes are never repeated, reads a few times; every failure is an error of the pipeline's.

    No cookies are kept (a strategy that needs them declares so), no redirection is followed, and no request leaves
    for another host than the target's own, apart from log-ins.
    """

    def __init__(
        self,
        config: HttpConfig,
        *,
        auth: Strategy | None = None,
        errors: ErrorShape = COMMON,
        gate: Gate = nullcontext,
    ) -> None:
        quieten()
        self.config, self.errors, self.redactor = config, errors, Redactor()
        if auth is not None:
            auth.report_to(self.redactor)
        self._gate = gate
        self._encode = msgspec.json.Encoder(decimal_format=config.decimals).encode
        limits = httpx.Limits(max_connections=config.connections_max, max_keepalive_connections=config.connections_max)
        transport = httpx.AsyncHTTPTransport(verify=trust(), limits=limits)
        self._http = httpx.AsyncClient(
            base_url=config.base_url,
            headers={"Accept": "application/json", **config.headers, "Accept-Encoding": ACCEPT_ENCODING},
            auth=auth,
            cookies=CookieJar(DefaultCookiePolicy(allowed_domains=[])),
            timeout=config.timeouts.of_httpx(),
            # Given one, httpx leaves the environment's proxies alone.
            transport=BoundedTransport(transport, config.answer_bytes_max),
        )

    async def call(
        self,
        method: str,
        path: str,
        *,
        json: Any = None,
        params: Mapping[str, Any] | None = None,
        headers: Mapping[str, str] | None = None,
        content: bytes | None = None,
        writes: bool | None = None,
        accept: Collection[int] = (),
        expects: str | None = None,
        text: bool = False,
    ) -> Answer:
        """Make the call; returns the answer of one that succeeded, or that has a status named in `accept`.

        `path` is relative to the base URL, or a whole address of the same host. `json` or `content` is the body.
        `writes` defaults to what the method says: a POST that only reads says False and is repeated as reads are.
        `expects` is a JSON pointer that must lead somewhere: SAP answers 201 and has created nothing.
        An answer that is not JSON is a fault unless `text` is set.

        Raises:
          TransientError: not done, for now.
          LoginFailed: a TransientError: the target does not let us in.
          OutcomeUnknown: a write that was called and not answered, or with something that can't be understood.
          TargetRefused: a PermanentError, with the target's own words and their `fault`.
        """
        writes = method.upper() not in READING if writes is None else writes
        request = self._request(method, path, json, params, headers, content)
        attempts_max = 1 if writes else self.config.read_attempts_max
        for attempt in range(1, attempts_max + 1):
            try:
                async with self._gate():
                    answer = await self._once(request, writes)
                    if answer.status not in accept:
                        self._check(answer, writes, expects, text)
                    return answer
            except LoginFailed:
                raise
            except TransientError as error:
                wait_ms = self._backoff_ms(attempt, error.retry_after_ms)
                if attempt == attempts_max or wait_ms > self.config.backoff_max_ms:
                    raise
                await asyncio.sleep(wait_ms / 1000)
        raise AssertionError("a call ends with an answer or an error")

    def outcomes(self, answer: Answer, count: int) -> list[PermanentError | TransientError | None]:
        """What became of each of the `count` items of a bulk write; None for those that succeeded.

        Raises:
          OutcomeUnknown: the answer does not say for each of them.
        """
        try:
            faults = item_faults(answer, self.errors, count, self.redactor)
        except ValueError as error:
            raise OutcomeUnknown(f"{self.config.name}: {error}") from error
        return [self._error(fault, answer, writes=True) if fault else None for fault in faults]

    async def close(self) -> None:
        """Release connections."""
        await self._http.aclose()

    def _request(
        self,
        method: str,
        path: str,
        json: Any,
        params: Mapping[str, Any] | None,
        headers: Mapping[str, str] | None,
        content: bytes | None,
    ) -> httpx.Request:
        sent = dict(headers or {})
        if json is not None:
            content = self._encode(json)
            sent.setdefault("Content-Type", "application/json")
        # None and not an empty mapping, which would take away the query that a next link brings along.
        request = self._http.build_request(
            method, path, params=dict(params) if params else None, headers=sent, content=content
        )
        base = self._http.base_url
        if _origin(request.url) != _origin(base):
            raise PermanentError(
                TARGET_REFUSED,
                f"{self.config.name} points to {self.redactor.url(str(request.url))}, which is not at {base.host}:"
                " our credentials don't go there (check its base URL)",
                owner=IT,
            )
        return request

    async def _once(self, request: httpx.Request, writes: bool) -> Answer:
        name, started = self.config.name, time.monotonic()
        status: int | str = "no answer"
        try:
            async with asyncio.timeout(self.config.timeouts.total_ms / 1000):
                response = await self._http.send(request)
            status = response.status_code
            return answer_of(response)
        except TimeoutError as error:
            # A target that sends a byte now and then keeps every other time-out from running.
            waited = httpx.ReadTimeout(f"not within {self.config.timeouts.total_ms} ms")
            raise error_without_answer(waited, name, writes=writes) from error
        except httpx.RequestError as error:
            if error.request is not request and not isinstance(error, httpx.PoolTimeout):
                raise LoginFailed(f"{name} is not called: the log-in got no answer ({type(error).__name__})") from error
            raise self._redacted(error_without_answer(error, name, writes=writes)) from None
        finally:
            logger.bind(event="http_call", target=name).debug(
                "{} {} {} {} ms",
                request.method,
                self.redactor.text(request.url.path),
                status,
                int((time.monotonic() - started) * 1000),
            )

    def _check(self, answer: Answer, writes: bool, expects: str | None, text: bool) -> None:
        wrong = None
        if succeeded(answer.status):
            wrong = answer.unreadable
            if wrong is None and answer.body is not None and not answer.is_json and not text:
                wrong = "it is not JSON"
        if wrong is None:
            fault = fault_of(answer, self.errors, self.redactor)
            if fault is not None:
                raise self._error(fault, answer, writes=writes)
        if wrong is None and expects is not None and first(answer.body, (expects,)) is None:
            wrong = f"it has nothing at {expects}"
        if wrong is not None:
            message = f"{self.config.name} answered {answer.status}, and the answer can't be used: {wrong}"
            raise OutcomeUnknown(message) if writes else TransientError(message)

    def _error(self, fault: Fault, answer: Answer, *, writes: bool) -> PermanentError | TransientError:
        return error_for(
            fault,
            self.config.name,
            writes=writes,
            rules=self.errors.rules,
            retry_after_ms=retry_after_of(answer.headers),
        )

    def _redacted(self, error: TransientError) -> TransientError:
        words = self.redactor.text(str(error))
        return type(error)(words, retry_after_ms=error.retry_after_ms, burns_attempt=error.burns_attempt)

    def _backoff_ms(self, attempt: int, retry_after_ms: int | None) -> int:
        ceiling = min(self.config.backoff_first_ms * 2 ** (attempt - 1), self.config.backoff_max_ms)
        return max(int(ceiling / 2 * (1 + random.random())), retry_after_ms or 0)


@cache
def trust() -> ssl.SSLContext:
    """The certificates that we trust, read once for all targets."""
    return httpx.create_ssl_context()


def quieten() -> None:
    """Keep httpx and httpcore from logging: addresses with their query at INFO, headers with our tokens at DEBUG."""
    for name in ("httpx", "httpcore"):
        logging.getLogger(name).setLevel(logging.WARNING)


def _origin(url: httpx.URL) -> tuple[str, str, int | None]:
    # httpx leaves the usual port of a scheme out, so Oracle's `:443` in its links is no other host.
    return url.scheme, url.host, url.port
