"""Authentication strategies, as httpx wants them: static headers, tokens that are fetched and kept, sessions."""

import asyncio
import base64
import time
from abc import ABC, abstractmethod
from collections.abc import AsyncGenerator, Callable, Mapping
from typing import NoReturn

import httpx
import msgspec

from connectors.http.answer import Answer, answer_of
from connectors.http.errors import ErrorShape, fault_of, succeeded
from connectors.http.outcome import LoginFailed, NotLoggedIn, retry_after_of
from connectors.http.secrets import Redactor, Secret

#: What is shorter is a user's name or a number, which errors may well name.
part_length_min = 12

#: How token endpoints refuse (RFC 6749, 5.2), and what others make of it.
REFUSAL = ErrorShape(code=("/error", "/errorCode", "/code"), message=("/error_description", "/message", "/detail"))


class Strategy(httpx.Auth):
    """Base of all strategies: their secrets go to the redactor of the client that they are given to."""

    def __init__(self, *secrets: Secret) -> None:
        self.redactor = Redactor()
        self._secrets = secrets
        self.redactor.know(*secrets)

    def report_to(self, redactor: Redactor) -> None:
        """From now on use this redactor, and tell it what is secret."""
        self.redactor = redactor
        redactor.know(*self._secrets)

    def sync_auth_flow(self, request: httpx.Request) -> NoReturn:
        raise RuntimeError("connectors call asynchronously")


class Fixed(Strategy):
    """The same header on every request. Bearer, Basic and ApiKey are this."""

    def __init__(self, header: str, value: Secret, *secrets: Secret) -> None:
        super().__init__(value, *secrets)
        self._header, self._value = header, value

    def sign(self, request: httpx.Request) -> None:
        request.headers[self._header] = self._value.reveal()

    async def async_auth_flow(self, request: httpx.Request) -> AsyncGenerator[httpx.Request, httpx.Response]:
        self.sign(request)
        yield request


class Bearer(Fixed):
    """A token issued by hand, which never expires or is exchanged by somebody else."""

    def __init__(self, token: Secret) -> None:
        super().__init__("Authorization", Secret(f"Bearer {token.reveal()}"), token)


class Basic(Fixed):
    """User and password (RFC 7617, UTF-8)."""

    def __init__(self, user: str, password: Secret) -> None:
        pair = base64.b64encode(f"{user}:{password.reveal()}".encode()).decode()
        super().__init__("Authorization", Secret(f"Basic {pair}"), password, Secret(pair))


class ApiKey(Fixed):
    """A key in a header of the target's choice: `ApiKey(key, "X-Redmine-API-Key")`, `ApiKey(pair, prefix="token ")`."""

    def __init__(self, key: Secret, header: str = "Authorization", prefix: str = "") -> None:
        super().__init__(header, Secret(f"{prefix}{key.reveal()}"), key)


class Pass(msgspec.Struct, frozen=True):
    """What signs requests until `until` (on the strategy's clock, in seconds), or until the target refuses it."""

    headers: Mapping[str, Secret]
    until: float | None


class Fetched(Strategy, ABC):
    """Base of what is fetched first: one request fetches, however many need it; a refused pass is renewed once.

    Raises (from the call that needs it):
      LoginFailed: the pass can't be had: a refusal, or an answer without one. Whoever waited for it fails with it.
    """

    def __init__(self, *secrets: Secret, clock: Callable[[], float] = time.monotonic) -> None:
        super().__init__(*secrets)
        self._clock = clock
        self._lock = asyncio.Lock()
        self._pass: Pass | None = None
        self._failures = 0

    @abstractmethod
    def ask(self) -> httpx.Request:
        """The request that fetches a pass."""

    @abstractmethod
    async def take(self, answer: Answer) -> Pass:
        """The pass from a successful answer. Raises LoginFailed where it has none."""

    def prepare(self, request: httpx.Request) -> None:
        """What a request needs besides the pass."""

    def refuses(self, response: httpx.Response) -> bool:
        """Whether the target no longer takes the pass."""
        return response.status_code == 401

    async def async_auth_flow(self, request: httpx.Request) -> AsyncGenerator[httpx.Request, httpx.Response]:
        self.prepare(request)
        refused: Pass | None = None
        while True:
            fetched = False
            current = self._usable(refused)
            if current is None:
                failures = self._failures
                async with self._lock:
                    current = self._usable(refused)
                    if current is None and self._failures != failures:
                        # One after the other would each wait for the same silence.
                        raise NotLoggedIn("another call has just tried to log in, and could not")
                    if current is None:
                        ask = self.ask()
                        # A request made by hand has no time-outs at all.
                        ask.extensions["timeout"] = request.extensions.get("timeout", {})
                        try:
                            current = self._pass = await self._taken((yield ask))
                        except BaseException:  # when there is no answer, httpx closes this generator
                            self._failures += 1
                            raise
                        fetched = True
            for header, value in current.headers.items():
                request.headers[header] = value.reveal()
            response = yield request
            if refused is not None or fetched or not self.refuses(response):
                return
            refused = current

    def _usable(self, refused: Pass | None) -> Pass | None:
        current = self._pass
        if current is None or current is refused:
            return None
        return current if current.until is None or self._clock() < current.until else None

    async def _taken(self, response: httpx.Response) -> Pass:
        await response.aread()
        answer = answer_of(response)
        if not succeeded(answer.status) or answer.unreadable:
            raise self.failure(answer, retry_after_of(answer.headers))
        taken = await self.take(answer)
        for value in taken.headers.values():
            self.redactor.know_for_now(value, *parts_of(value.reveal()))
        return taken

    def failure(self, answer: Answer, retry_after_ms: int | None = None) -> LoginFailed:
        fault = fault_of(answer, REFUSAL, self.redactor)
        said = str(fault) if fault else f"{answer.status}, {answer.unreadable or 'without what was asked for'}"
        return LoginFailed(
            f"{self.redactor.url(answer.url)} answered the login with {said}"
            " (check the target's address and credentials)",
            retry_after_ms=retry_after_ms,
        )


def parts_of(header: str) -> list[str]:
    """The words of a header's value, and what is packed into them: a session in `Session base64(user:id:session)`."""
    words = header.split()
    for word in tuple(words):
        try:
            words += base64.b64decode(word, validate=True).decode().split(":")
        except ValueError:
            continue
    return [word for word in words if len(word) >= part_length_min]


class SessionLogin(Fetched):
    """A session: a declared login request, and how to read what signs requests from its answer.

    `read` gives the headers of every request that follows, from the answer's body and headers, and None where the
    answer is no session after all (Tryton says so with 200). `first_with` signs the login, and every request too,
    where the system wants both (SAP: Basic, and the CSRF token with its cookies). `expired` tells an answer that
    wants a new session from others; one new login follows, then the answer stands.
    """

    def __init__(
        self,
        login: Callable[[], httpx.Request],
        read: Callable[[Answer], Mapping[str, Secret] | None],
        *secrets: Secret,
        first_with: Fixed | None = None,
        expired: Callable[[httpx.Response], bool] | None = None,
        lifetime_ms: int | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        super().__init__(*secrets, clock=clock)
        self._login, self._read, self._first_with = login, read, first_with
        self._expired, self._lifetime_ms = expired, lifetime_ms

    def report_to(self, redactor: Redactor) -> None:
        super().report_to(redactor)
        if self._first_with is not None:
            self._first_with.report_to(redactor)

    def ask(self) -> httpx.Request:
        request = self._login()
        self.prepare(request)
        return request

    async def take(self, answer: Answer) -> Pass:
        try:
            headers = self._read(answer)
        except (LookupError, TypeError, ValueError, AttributeError):  # whatever reading a strange body raises
            headers = None
        if not headers:
            raise self.failure(answer)
        until = None if self._lifetime_ms is None else self._clock() + self._lifetime_ms / 1000
        return Pass(headers, until)

    def refuses(self, response: httpx.Response) -> bool:
        return self._expired(response) if self._expired else super().refuses(response)

    def prepare(self, request: httpx.Request) -> None:
        if self._first_with is not None:
            self._first_with.sign(request)
