"""Sessions that are logged in to: opened when needed, once more when they have run out."""

import base64

import httpx
import pytest

from connectors.http.auth import Basic, SessionLogin
from connectors.http.outcome import LoginFailed
from connectors.http.secrets import Secret
from tests.unit.connectors.http.calling import calling
from tests.unit.connectors.http.server import Reply, Request, serving


def tryton(url: str) -> SessionLogin:
    def login() -> httpx.Request:
        call = {"id": 0, "method": "common.db.login", "params": ["tieout", {"password": "pass word"}]}
        return httpx.Request("POST", f"{url}/login", json=call)

    def read(answer):
        user, session, *_ = answer.body["result"]
        return {"Authorization": Secret("Session " + base64.b64encode(f"tieout:{user}:{session}".encode()).decode())}

    return SessionLogin(login, read, Secret("pass word"))


async def test_a_session_that_has_run_out_is_opened_once_more_and_then_the_answer_stands():
    sessions: list[str] = []
    shut = False

    def handler(request: Request) -> Reply:
        if request.path == "/login":
            sessions.append(f"S{len(sessions) + 1}")
            return Reply(body={"id": 0, "result": [2, sessions[-1], None]})
        session = base64.b64decode(request.headers["authorization"].removeprefix("Session ")).decode()
        return Reply(status=401) if shut or session != f"tieout:2:{sessions[-1]}" else Reply(body={"result": [1]})

    async with serving(handler) as server, calling(server.url, auth=tryton(server.url)) as client:
        assert (await client.call("POST", "/rpc", json={})).body == {"result": [1]}
        sessions.append("another")
        assert (await client.call("POST", "/rpc", json={})).body == {"result": [1]}
        shut = True
        with pytest.raises(LoginFailed):
            await client.call("POST", "/rpc", json={})
    assert [request.path for request in server.requests].count("/login") == 3


async def test_a_login_that_is_refused_with_200_is_refused():
    reply = Reply(body={"id": 0, "error": ["LoginException", ["password", "Password for tieout"]]})
    async with serving(lambda request: reply) as server, calling(server.url, auth=tryton(server.url)) as client:
        with pytest.raises(LoginFailed, match="without what was asked for"):
            await client.call("POST", "/rpc", json={})


async def test_a_csrf_token_is_fetched_with_its_cookies_and_again_when_it_is_refused():
    tokens: list[str] = []

    def handler(request: Request) -> Reply:
        if request.headers["authorization"] != "Basic " + base64.b64encode(b"comm:pw").decode():
            return Reply(status=401)
        if request.headers.get("x-csrf-token") == "Fetch":
            tokens.append(f"csrf-{len(tokens)}")
            return Reply(headers={"X-CSRF-Token": tokens[-1], "Set-Cookie": f"SAP_SESSIONID_1={tokens[-1]}; path=/"})
        if request.headers["x-csrf-token"] != tokens[-1] or tokens[-1] not in request.headers["cookie"]:
            return Reply(status=403, body="CSRF token validation failed", headers={"X-CSRF-Token": "Required"})
        return Reply(status=201, body={"d": {}})

    def read(answer):
        cookie = answer.headers["set-cookie"].split(";")[0]
        return {"X-CSRF-Token": Secret(answer.headers["x-csrf-token"]), "Cookie": Secret(cookie)}

    async with serving(handler) as server:
        auth = SessionLogin(
            lambda: httpx.Request("GET", f"{server.url}/", headers={"X-CSRF-Token": "Fetch"}),
            read,
            first_with=Basic("comm", Secret("pw")),
            expired=lambda response: response.headers.get("x-csrf-token", "").lower() == "required",
        )
        async with calling(server.url, auth=auth) as client:
            assert (await client.call("POST", "/A_SalesOrder", json={})).status == 201
            tokens.append("rotated")
            assert (await client.call("POST", "/A_SalesOrder", json={})).status == 201
    assert [request.method for request in server.requests] == ["GET", "POST", "POST", "GET", "POST"]
