"""A few lines of Tryton's JSON-RPC over httpx, for tests that look at the ERP past our own connector."""

import base64
from typing import Any

import httpx

from tryton import Tryton

call_timeout_s = 60
#: What Tryton says when the session of a call has been ended under it.
SESSION_ENDED = 'of "Session" that don'


class Refused(Exception):
    """Tryton's own `error`: its kind, and what it says."""


class Caller:
    """Somebody who is logged in. What Tryton's types are made of (`__class__`) stays as it is.

    Raises:
      httpx.HTTPError: nobody answers, or not with 200.
      Refused: Tryton does not do it.
    """

    def __init__(self, server: Tryton, user: str | None = None, timeout_s: float = call_timeout_s) -> None:
        self._http = httpx.Client(base_url=f"{server.url}/{server.database}", timeout=timeout_s, trust_env=False)
        self._user = user or server.user
        self._password = server.seed["users"][self._user]
        self._log_in()
        preferences = self._call("model.res.user.get_preferences", True, {})
        self.context = {
            name: preferences[name] for name in ("company", "employee", "language") if preferences.get(name)
        }

    def __call__(self, method: str, *parameters: Any) -> Any:
        """Call `model.<model>.<method>` as this user; the context is added."""
        try:
            return self._call(f"model.{method}", *parameters, self.context)
        except Refused as refused:
            if SESSION_ENDED not in str(refused):
                raise
        # While the call was at work: nothing is done.
        self._log_in()
        return self._call(f"model.{method}", *parameters, self.context)

    def wizard(self, name: str, model: str, number: int, pages: dict[str, Any], button: str) -> None:
        """Run wizard `name` on one record: these pages filled in, this button pressed."""
        context = self.context | {"active_model": model, "active_id": number, "active_ids": [number]}
        session, *_ = self._call(f"wizard.{name}.create", context)
        self._call(f"wizard.{name}.execute", session, pages, button, context)
        self._call(f"wizard.{name}.delete", session, context)

    def close(self) -> None:
        self._http.close()

    def _log_in(self) -> None:
        number, session, _ = self._call("common.db.login", self._user, {"password": self._password})
        token = base64.b64encode(f"{self._user}:{number}:{session}".encode()).decode()
        self._http.headers["Authorization"] = f"Session {token}"

    def _call(self, method: str, *parameters: Any) -> Any:
        answer = self._http.post("/rpc/", json={"id": 0, "method": method, "params": parameters}).raise_for_status()
        body = answer.json()
        if error := body.get("error"):
            raise Refused(*error)
        return body["result"]


def a_date(text: str) -> dict[str, Any]:
    year, month, day = map(int, text.split("-"))
    return {"__class__": "date", "year": year, "month": month, "day": day}


def an_amount(text: str) -> dict[str, Any]:
    return {"__class__": "Decimal", "decimal": text}


def hours(number: float) -> dict[str, Any]:
    return {"__class__": "timedelta", "seconds": number * 3600}
