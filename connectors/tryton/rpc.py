"""Tryton's JSON-RPC: one call is one transaction, done whole or not at all."""

import asyncio
import base64
import itertools
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import nullcontext
from typing import Any

import httpx
import msgspec

from connectors.http.answer import Answer
from connectors.http.auth import SessionLogin
from connectors.http.client import Gate, HttpClient, HttpConfig
from connectors.http.errors import Fault
from connectors.http.outcome import TargetBusy, TargetRefused, error_for
from connectors.http.secrets import Secret
from connectors.tryton.codec import Undecodable, decoded, encoded
from connectors.tryton.config import TrytonConfig
from connectors.tryton.faults import RULES, STATUSES, Gone, Warned, fault_in, language, sorted_out
from pipeline.codes import IT, TARGET_REFUSED
from pipeline.errors import OutcomeUnknown, PermanentError, TransientError

#: The methods of a model that change nothing, for a call that does not say.
READING = frozenset({"read", "search", "search_read", "search_count", "get_preferences", "fields_get", "default_get"})
#: A context for searches, which leave out what is not active: parties that were archived, employees who have left.
ALL = {"active_test": False}
#: So many warnings of one call are skipped, one after the other.
warnings_max = 10
#: So often a page is read again in which others have removed something meanwhile.
page_attempts_max = 5


class Session(msgspec.Struct, frozen=True, kw_only=True):
    """What holds for every call of ours: `context` goes with each; `series` is `(8, 0)`."""

    context: dict[str, Any]
    company: int
    currency: str
    series: tuple[int, int]

    @property
    def sets_keys(self) -> bool:
        """Whether a client may set the keys that Tryton shows read-only: `timesheet.line.uuid`, `project.work.number`.

        From 8.1 on the server refuses them.
        """
        return self.series < (8, 1)


class Rpc:
    """Calls the models of one database as one user; logs in when needed, once more when the session has run out."""

    def __init__(self, config: TrytonConfig, gate: Gate = nullcontext) -> None:
        self.config = config
        url = config.url.rstrip("/")
        self._root, self._path = f"{url}/rpc/", f"{url}/{config.database}/rpc/"
        login = SessionLogin(self._login, self._session_of, config.password)
        http = HttpConfig(
            name=config.name, base_url=url, timeouts=config.timeouts, connections_max=config.connections_max
        )
        self._http = HttpClient(http, auth=login, errors=STATUSES, gate=gate)
        self._numbers = itertools.count(1)
        self._session: Session | None = None
        self._starting = asyncio.Lock()

    async def call(
        self,
        model: str,
        method: str,
        *parameters: Any,
        writes: bool | None = None,
        context: Mapping[str, Any] | None = None,
    ) -> Any:
        """What `model.<model>.<method>` answers to these parameters, in Python's types both ways.

        `writes` defaults to what the method says (everything but `READING` does). `context` is added to the session's.
        Warnings that the settings name are skipped.

        Raises:
          AlreadyThere, Gone, Warned: TargetRefused, which see. StaleRecord: TransientError, which see.
          TargetRefused: PERIOD_CLOSED or TARGET_REFUSED, with Tryton's own words: nothing was done.
          TransientError: nothing was done. LoginFailed: we are not let in.
          OutcomeUnknown: a write that was not answered.
        """
        session = await self.session()
        writes = method not in READING if writes is None else writes
        context = {**session.context, **(context or {})}
        for skipped in range(warnings_max + 1):
            try:
                return await self._ask(f"model.{model}.{method}", [*parameters, context], writes)
            except Warned as warned:
                if warned.kind not in self.config.warnings_skipped or skipped == warnings_max:
                    raise
                await self._ask("model.res.user.warning.skip", [warned.warning, False, session.context], True)
        raise AssertionError("a call ends with an answer or an error")

    async def listed(
        self,
        model: str,
        domain: Sequence[Any],
        fields: Sequence[str],
        *,
        context: Mapping[str, Any] | None = None,
    ) -> AsyncIterator[dict[str, Any]]:
        """Every record of a search, in order of id, a page in memory at a time. Raises what `call` raises.

        The next page begins after the last id, so rows that come and go meanwhile shift nothing.
        """
        last = 0
        while True:
            after = [*domain, ["id", ">", last]]
            page = await self._page(model, after, fields, context)
            for record in page:
                yield record
            if len(page) < self.config.page_max:
                return
            last = page[-1]["id"]

    async def _page(
        self, model: str, domain: list[Any], fields: Sequence[str], context: Mapping[str, Any] | None
    ) -> list[dict[str, Any]]:
        """The first page of a search. Tryton finds first, then reads, and refuses where something is gone by then.

        Raises what `call` raises, and TransientError when that is so each time.
        """
        for attempt in range(1, page_attempts_max + 1):
            try:
                page: list[dict[str, Any]] = await self.call(
                    model, "search_read", domain, 0, self.config.page_max, [["id", "ASC"]], fields, context=context
                )
                return page
            except Gone as gone:
                if attempt == page_attempts_max:
                    message = f"{self.config.name}: of {model} something is removed each time that it is read"
                    raise TransientError(message) from gone
        raise AssertionError("the last attempt returns or raises")

    async def wizard(self, name: str, model: str, number: int, values: Mapping[str, Any], button: str) -> None:
        """Run a wizard on one record: fill in its first page and press `button`, which is one transaction.

        Raises what `call` raises.
        """
        session = await self.session()
        context = {**session.context, "active_model": model, "active_id": number, "active_ids": [number]}
        key, page, _ = await self._ask(f"wizard.{name}.create", [context], False)
        await self._ask(f"wizard.{name}.execute", [key, {page: dict(values)}, button, context], True)
        await self._ask(f"wizard.{name}.delete", [key, context], False)

    async def session(self) -> Session:
        """Who and what we work with, asked for at the first call. Raises what `call` raises."""
        if self._session is None:
            async with self._starting:
                if self._session is None:
                    self._session = await self._started()
        return self._session

    async def close(self) -> None:
        """Release connections."""
        await self._http.close()

    async def _started(self) -> Session:
        # The server itself is asked, not a database of it: there the method does not exist.
        version = await self._ask("common.server.version", [], False, self._root)
        preferences = await self._ask("model.res.user.get_preferences", [True, {}], False)
        context = {"language": language}
        context |= {name: preferences[name] for name in ("company", "employee") if preferences.get(name)}
        named = self.config.company
        domain = ["party.name", "=", named] if named else ["id", "=", context.get("company")]
        search = [[domain], 0, 2, None, ["party.name", "currency.code"], context]
        found = await self._ask("model.company.company.search_read", search, False)
        if len(found) != 1:
            wanted = f"{len(found)} companies named {named!r}" if named else "no company"
            message = f"{self.config.name}: the user {self.config.user} has {wanted}: set `company` to one of its own"
            raise PermanentError(TARGET_REFUSED, message, owner=IT)
        company = found[0]["id"]
        series = tuple(int(part) for part in str(version).split(".")[:2])
        return Session(
            context={**context, "company": company},
            company=company,
            currency=found[0]["currency."]["code"],
            series=(series[0], series[1]),
        )

    async def _ask(self, method: str, parameters: list[Any], writes: bool, path: str | None = None) -> Any:
        """One request, and the result in its answer.

        The request has these three keys and no other: with `jsonrpc` in it Tryton speaks another protocol.
        """
        number = next(self._numbers)
        request = {"id": number, "method": method, "params": encoded(parameters)}
        try:
            answer = await self._http.call("POST", path or self._path, json=request, writes=writes)
        except TargetBusy as busy:
            # A lock, held by somebody else: nobody's attempt, and no reason to slow down, which the gate would do.
            busy.burns_attempt = False
            raise
        except TargetRefused as refused:
            # By status: a page of HTML about a request that can't be right, whatever the document is.
            refused.owner = IT
            raise
        if fault := fault_in(answer.body, self._http.redactor):
            raise self._error(fault, writes)
        body = answer.body
        if not isinstance(body, dict) or "result" not in body or body.get("id") != number:
            raise self._unusable(f"it is no answer to call {number}", writes)
        try:
            return decoded(body["result"])
        except Undecodable as error:
            raise self._unusable(str(error), writes) from None

    def _error(self, fault: Fault, writes: bool) -> PermanentError | TransientError:
        return sorted_out(error_for(fault, self.config.name, writes=writes, rules=RULES), fault)

    def _unusable(self, reason: str, writes: bool) -> TransientError:
        message = f"{self.config.name} answered, and the answer can't be used: {reason}"
        return OutcomeUnknown(message) if writes else TransientError(message)

    def _login(self) -> httpx.Request:
        who = [self.config.user, {"password": self.config.password.reveal()}]
        return httpx.Request("POST", self._path, json={"id": 0, "method": "common.db.login", "params": who})

    def _session_of(self, answer: Answer) -> dict[str, Secret]:
        number, key, *_ = answer.body["result"]
        token = base64.b64encode(f"{self.config.user}:{number}:{key}".encode()).decode()
        return {"Authorization": Secret(f"Session {token}")}
