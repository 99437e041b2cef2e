"""Who we are: each strategy against a server that checks it."""

import asyncio
import base64
from collections.abc import Callable

import jwt
import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa

from connectors.http.auth import ApiKey, Basic, Bearer
from connectors.http.client import Timeouts
from connectors.http.oauth import ClientCredentials, ClientProof, RefreshToken
from connectors.http.outcome import LoginFailed, NoConnection, NotLoggedIn
from connectors.http.secrets import Secret
from connectors.http.signed_jwt import SignedJwt
from pipeline.errors import OutcomeUnknown, TransientError
from tests.unit.connectors.http.calling import calling
from tests.unit.connectors.http.server import Hangup, Reply, Request, Silence, serving

CLIENT = ClientProof(client_id="tieout", client_secret=Secret("s3cret/of=ours"))


class Clock:
    now = 1000.0

    def __call__(self) -> float:
        return self.now


class TokenServer:
    """Hands out T1, T2, ... at /token and takes only the newest, or none."""

    def __init__(self, **token: object) -> None:
        self.issued, self.token, self.valid = 0, token, True
        self.asked: list[Request] = []
        self.called, self.open = asyncio.Event(), asyncio.Event()
        self.open.set()

    async def __call__(self, request: Request) -> Reply:
        if request.path == "/token":
            self.asked.append(request)
            self.called.set()
            await self.open.wait()
            self.issued += 1
            return Reply(body={"access_token": f"T{self.issued}", "token_type": "Bearer", **self.token})
        good = self.valid and request.headers.get("authorization") == f"Bearer T{self.issued}"
        return Reply(body={"id": 1}) if good else Reply(status=401)


def credentials(url: str, clock: Callable[[], float] | None = None) -> ClientCredentials:
    return ClientCredentials(f"{url}/token", CLIENT, scope="all", **({"clock": clock} if clock else {}))


@pytest.mark.parametrize(
    ("auth", "header", "value"),
    [
        (Bearer(Secret("abc")), "authorization", "Bearer abc"),
        (Basic("Jürgen", Secret("p:w")), "authorization", "Basic " + base64.b64encode("Jürgen:p:w".encode()).decode()),
        (ApiKey(Secret("k1"), "X-Redmine-API-Key"), "x-redmine-api-key", "k1"),
        (ApiKey(Secret("key:secret"), prefix="token "), "authorization", "token key:secret"),
    ],
)
async def test_a_fixed_header_goes_with_every_request(auth, header, value):
    async with serving(lambda request: Reply(body=[])) as server, calling(server.url, auth=auth) as client:
        await client.call("GET", "/")
    assert server.requests[0].headers[header] == value


async def test_many_requests_at_once_fetch_one_token():
    handler = TokenServer(expires_in=3600)
    handler.open.clear()
    async with serving(handler) as server, calling(server.url, auth=credentials(server.url)) as client:
        calls = [asyncio.create_task(client.call("POST", "/", json={})) for _ in range(20)]
        await handler.called.wait()
        handler.open.set()
        answers = await asyncio.gather(*calls)
    assert {answer.status for answer in answers} == {200}
    assert len(handler.asked) == 1
    form = handler.asked[0].form()
    assert form == {"grant_type": "client_credentials", "scope": "all"}
    pair = base64.b64decode(handler.asked[0].headers["authorization"].removeprefix("Basic ")).decode()
    assert pair == "tieout:s3cret%2Fof%3Dours"


async def test_the_client_may_prove_itself_in_the_form():
    handler = TokenServer()
    proof = ClientProof(client_id="tieout", client_secret=Secret("hush"), in_form=True)
    async with serving(handler) as server:
        auth = ClientCredentials(f"{server.url}/token", proof, more={"resource": "r"})
        async with calling(server.url, auth=auth) as client:
            await client.call("GET", "/")
    assert "authorization" not in handler.asked[0].headers
    assert handler.asked[0].form() == {
        "grant_type": "client_credentials",
        "resource": "r",
        "client_id": "tieout",
        "client_secret": "hush",
    }


@pytest.mark.parametrize(
    ("expires_in", "after_s", "fetched"),
    [(3600, 3500, 1), (3600, 3541, 2), ("3600", 3541, 2), (100, 80, 1), (100, 91, 2), (None, 10**9, 1)],
)
async def test_a_token_is_kept_until_shortly_before_it_expires(expires_in, after_s, fetched):
    handler, clock = TokenServer(expires_in=expires_in), Clock()
    async with serving(handler) as server, calling(server.url, auth=credentials(server.url, clock)) as client:
        await client.call("GET", "/")
        clock.now += after_s
        await client.call("GET", "/")
    assert len(handler.asked) == fetched


async def test_a_refused_token_is_renewed_once_for_everybody():
    handler = TokenServer()
    async with serving(handler) as server, calling(server.url, auth=credentials(server.url)) as client:
        await client.call("GET", "/")
        handler.issued = 7  # revoked: only T8 will do
        answers = await asyncio.gather(*(client.call("POST", "/", json={"n": n}) for n in range(8)))
    assert {answer.status for answer in answers} == {200}
    assert len(handler.asked) == 2
    assert {request.body for request in server.requests[-8:]} == {b'{"n":%d}' % n for n in range(8)}


async def test_a_new_token_that_is_refused_too_is_the_answer():
    handler = TokenServer()
    async with serving(handler) as server, calling(server.url, auth=credentials(server.url)) as client:
        await client.call("GET", "/")
        handler.valid = False
        with pytest.raises(LoginFailed, match="401"):
            await client.call("POST", "/", json={})
    assert [request.path for request in server.requests] == ["/token", "/", "/", "/token", "/"]


async def test_nobody_tries_a_third_time_with_what_others_have_fetched():
    handler = TokenServer()
    async with serving(handler) as server, calling(server.url, auth=credentials(server.url)) as client:
        await client.call("GET", "/")
        handler.valid = False
        calls = (client.call("POST", f"/{number}", json={}) for number in range(8))
        errors = await asyncio.gather(*calls, return_exceptions=True)
    assert [type(error) for error in errors] == [LoginFailed] * 8
    paths = [request.path for request in server.requests]
    assert [paths.count(f"/{number}") for number in range(8)] == [2] * 8


REFUSED = {
    "wrong": (Reply(status=400, body={"error": "invalid_client", "error_description": "Bad s3cret/of=ours"}), "Bad"),
    "garbage": (Reply(status=200, body="<html>Sign in</html>"), "without what was asked for"),
    "an answer without a token": (Reply(body={"hello": "world"}), "without what was asked for"),
    "busy": (Reply(status=429, headers={"Retry-After": "7"}), "429"),
    "hung up": (Hangup(), "the log-in got no answer"),
    "silent": (Silence(), "the log-in got no answer"),
}


@pytest.mark.parametrize("how", REFUSED)
async def test_a_write_whose_login_fails_was_not_sent(how):
    reply, words = REFUSED[how]

    def handler(request: Request) -> Reply:
        if isinstance(reply, Exception):
            raise reply
        return reply

    async with serving(handler) as server:
        options = {"auth": credentials(server.url), "timeouts": Timeouts(read_ms=100)}
        async with calling(server.url, **options) as client:
            with pytest.raises(LoginFailed, match=words) as raised:
                await client.call("POST", "/", json={})
    assert not isinstance(raised.value, OutcomeUnknown)
    assert "s3cret" not in str(raised.value)
    assert [request.path for request in server.requests] == ["/token"]
    assert raised.value.retry_after_ms == (7000 if how == "busy" else None)


async def test_who_waits_for_a_login_fails_with_it_and_the_next_one_tries_again():
    asked = asyncio.Event()
    answer = asyncio.Event()

    async def handler(request: Request) -> Reply:
        asked.set()
        await answer.wait()
        raise Hangup

    async with serving(handler) as server, calling(server.url, auth=credentials(server.url)) as client:
        calls = [asyncio.create_task(client.call("POST", "/", json={})) for _ in range(5)]
        await asked.wait()
        answer.set()
        errors = await asyncio.gather(*calls, return_exceptions=True)
        assert [type(error) for error in errors] == [LoginFailed, *[NotLoggedIn] * 4], (
            "only one has seen the target fail"
        )
        assert len(server.requests) == 1
        with pytest.raises(LoginFailed):
            await client.call("POST", "/", json={})
        assert len(server.requests) == 2


async def test_a_login_that_waits_in_vain_for_a_connection_of_ours_says_nothing_of_the_target():
    arrived, tokens = asyncio.Event(), TokenServer()

    def handler(request: Request) -> Reply:
        if request.path == "/slow":
            arrived.set()
            raise Silence
        return tokens(request)

    async with serving(handler) as server:
        options = {"connections_max": 1, "timeouts": Timeouts(pool_ms=50)}
        async with calling(server.url, auth=credentials(server.url), **options) as client:
            await client.call("GET", "/")
            slow = asyncio.create_task(client.call("POST", "/slow", json={}))
            await arrived.wait()
            client._http.auth._pass = None
            errors = await asyncio.gather(
                *(client.call("POST", "/", json={}) for _ in range(3)), return_exceptions=True
            )
            slow.cancel()
            await asyncio.gather(slow, return_exceptions=True)
    assert {type(error) for error in errors} == {NoConnection, NotLoggedIn}


async def test_a_login_that_is_lost_on_the_way_back_in_leaves_the_write_undone():
    asked: list[str] = []

    def handler(request: Request) -> Reply:
        asked.append(request.path)
        if asked.count("/token") == 2:
            raise Hangup
        return Reply(body={"access_token": "T"}) if request.path == "/token" else Reply(status=401)

    async with serving(handler) as server, calling(server.url, auth=credentials(server.url)) as client:
        for _ in range(2):
            with pytest.raises(TransientError) as raised:
                await client.call("POST", "/", json={})
            assert not isinstance(raised.value, OutcomeUnknown)
    assert asked == ["/token", "/", "/", "/token"]


async def test_a_refresh_token_that_rotates_is_handed_over_and_used():
    kept: list[Secret] = []

    async def rotated(token: Secret) -> None:
        kept.append(token)

    handler, clock = TokenServer(expires_in=100), Clock()
    handler.token["refresh_token"] = "R2"
    async with serving(handler) as server:
        auth = RefreshToken(f"{server.url}/token", Secret("R1"), CLIENT, rotated=rotated, clock=clock)
        async with calling(server.url, auth=auth) as client:
            await client.call("GET", "/")
            clock.now += 100
            await client.call("GET", "/")
    assert [request.form()["refresh_token"] for request in handler.asked] == ["R1", "R2"]
    assert kept == [Secret("R2")]


def pem(key: rsa.RSAPrivateKey | ec.EllipticCurvePrivateKey) -> str:
    form = serialization.PrivateFormat.PKCS8
    return key.private_bytes(serialization.Encoding.PEM, form, serialization.NoEncryption()).decode()


RSA_KEY = rsa.generate_private_key(public_exponent=65537, key_size=2048)
EC_KEY = ec.generate_private_key(ec.SECP256R1())


@pytest.mark.parametrize(("algorithm", "key"), [("RS256", RSA_KEY), ("PS256", RSA_KEY), ("ES256", EC_KEY)])
async def test_an_assertion_is_signed_as_the_grant(algorithm, key):
    handler = TokenServer()
    async with serving(handler) as server:
        auth = SignedJwt(
            f"{server.url}/token",
            pem(key),
            issuer="client-1",
            subject="ada@example.org",
            audience="https://login.example.org",
            algorithm=algorithm,
        )
        async with calling(server.url, auth=auth) as client:
            await client.call("GET", "/")
    form = handler.asked[0].form()
    assert form["grant_type"] == "urn:ietf:params:oauth:grant-type:jwt-bearer"
    claims = jwt.decode(form["assertion"], key.public_key(), [algorithm], audience="https://login.example.org")
    assert (claims["iss"], claims["sub"], claims["exp"] - claims["iat"]) == ("client-1", "ada@example.org", 180)


async def test_an_assertion_is_signed_as_the_clients_proof():
    handler = TokenServer(expires_in="3600")
    async with serving(handler) as server:
        auth = SignedJwt(
            f"{server.url}/token",
            pem(EC_KEY),
            issuer="client-1",
            key_id="cert-9",
            algorithm="ES256",
            as_client_proof=True,
            claims={"scope": ["rest_webservices"]},
        )
        async with calling(server.url, auth=auth) as client:
            await client.call("GET", "/")
        form = handler.asked[0].form()
        assert form["grant_type"] == "client_credentials"
        assert form["client_assertion_type"] == "urn:ietf:params:oauth:client-assertion-type:jwt-bearer"
        assert jwt.get_unverified_header(form["client_assertion"])["kid"] == "cert-9"
        claims = jwt.decode(form["client_assertion"], EC_KEY.public_key(), ["ES256"], audience=f"{server.url}/token")
        assert claims["scope"] == ["rest_webservices"]


@pytest.mark.parametrize("key", ["not a key", pem(EC_KEY)])
def test_a_key_that_cannot_sign_is_named_and_not_quoted(key):
    with pytest.raises(ValueError, match="the private key of client-1 is not a PEM that can sign RS256") as raised:
        SignedJwt("https://example.org/token", key, issuer="client-1", algorithm="RS256")
    assert key not in str(raised.value)
