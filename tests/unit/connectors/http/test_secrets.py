"""What is secret stays so: in values, texts, errors and log lines."""

import base64
import copy
import json
import logging
import pickle
from urllib.parse import quote_plus

import httpx
import msgspec
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from loguru import logger

from connectors.http.auth import ApiKey, Basic, Bearer, SessionLogin
from connectors.http.oauth import ClientCredentials, ClientProof
from connectors.http.secrets import Redactor, Secret, encoded
from pipeline.errors import PipelineError
from tests.unit.connectors.http.calling import calling
from tests.unit.connectors.http.server import Reply, Request, serving

#: Printable, also beyond ASCII, with every character that some encoding treats in its own way; with a beginning that no
#: word of ours has: one that is part of our own text is no leak.
SECRETS = st.text(st.characters(min_codepoint=33, max_codepoint=0x2FF, exclude_categories=["C", "Z"]), min_size=8).map(
    "zQ".__add__
)
#: As a header takes them.
HEADER_SECRETS = st.text(st.characters(min_codepoint=33, max_codepoint=126), min_size=8).map("zQ".__add__)


def logged(value: object) -> str:
    """As the standard library's logging writes it."""
    return logging.LogRecord("x", logging.INFO, "x", 1, "%s", (value,), None).getMessage()


@given(SECRETS)
def test_a_secret_never_shows_itself(value):
    secret = Secret(value)
    shown = [
        repr(secret),
        str(secret),
        f"{secret}",
        f"{secret!r:>9}",
        logged(secret),
        repr([secret]),
        str({"a": secret}),
    ]
    shown += [repr(ClientProof(client_id="c", client_secret=secret)), repr(copy.deepcopy(secret)), str(dir(secret))]
    shown += [msgspec.json.encode({"a": secret}, enc_hook=encoded).decode()]
    assert not [text for text in shown if value in text]
    for encode in (msgspec.json.encode, json.dumps, pickle.dumps, msgspec.to_builtins):
        with pytest.raises(TypeError) as raised:
            encode(secret)
        assert value not in str(raised.value)
    assert secret.reveal() == value
    assert secret == Secret(value) != Secret(value + "x")


@pytest.mark.parametrize("value", ["", "  \n", "two\nlines", "nul\x00"])
def test_what_can_be_no_secret_is_refused_without_being_quoted(value):
    with pytest.raises(ValueError, match="a secret is empty or has a control character inside") as raised:
        Secret(value)
    assert "lines" not in str(raised.value)


def test_the_line_break_at_the_end_of_a_file_is_no_part_of_a_secret():
    assert Secret("key\n").reveal() == "key"


@given(SECRETS, st.sampled_from(["plain", "query", "json", "json in json", "ascii json", "repr"]))
def test_a_known_secret_is_found_however_it_is_written(value, how):
    written = {
        "plain": value,
        "query": quote_plus(value),
        "json": json.dumps({"said": f"not {value}"}, ensure_ascii=False),
        "json in json": json.dumps(json.dumps([value])),
        "ascii json": json.dumps([value]),
        "repr": repr([value]),
    }[how]
    redactor = Redactor()
    redactor.know(Secret(value))
    text = redactor.text(f"before {written} after")
    assert value not in text
    assert written not in text
    assert text.startswith("before ")


NAMED = [
    "Authorization: Bearer {}",
    "Cookie: a=b; session_id={}",
    "Set-Cookie: sid={}; HttpOnly",
    "headers={{'Authorization': 'Basic {}', 'x': 1}}",
    "https://example.org/token?client_secret={}&x=1",
    "grant_type=refresh_token&refresh_token={}",
    '{{"access_token":"{}","expires_in":3600}}',
    '{{"user":"ada","password": "{}"}}',
    '"{{\\"access_token\\":\\"{}\\"}}"',
    "{{'client_assertion': '{}'}}",
    "password: {}",
    "X-Redmine-API-Key: {}",
    "api_key={}",
    "the token Bearer {} is not valid",
]


@pytest.mark.parametrize("text", NAMED)
@given(value=st.from_regex(r"[A-Za-z0-9._~+/-]{12,40}", fullmatch=True))
def test_an_unknown_secret_is_found_by_its_name(text, value):
    assert value not in Redactor().text(text.format(value))


@given(st.text(max_size=300))
def test_any_text_can_be_redacted(text):
    redactor = Redactor()
    redactor.know(Secret("s3cret-value"))
    assert "s3cret-value" not in redactor.text(text + "s3cret-value" + text)


def test_what_is_harmless_stays():
    text = 'A value is required for field "Unit" in record "1" of "Account Invoice Line".'
    assert Redactor().text(text) == text
    assert Redactor().url("https://u:p@example.org/a/b?key=1#c") == "https://example.org/a/b"


def test_old_tokens_make_room_for_new_ones_and_lasting_secrets_stay():
    redactor = Redactor()
    redactor.know(Secret("lasting-secret"))
    for number in range(200):
        redactor.know_for_now(f"token-{number:03}-x")
    assert redactor.text("lasting-secret token-199-x") == "*** ***"


async def said_about(secret: str, auth_of, reply_to) -> str:
    """Everything that was raised or logged when a target quotes us in its answer."""
    texts: list[str] = []
    sink = logger.add(lambda message: texts.append(str(message)), level=0, format="{message} {extra} {exception}")
    root, before = logging.getLogger(), logging.getLogger().level
    handler = logging.Handler()
    handler.emit = lambda record: texts.append(record.getMessage())  # type: ignore[method-assign]
    root.addHandler(handler)
    root.setLevel(logging.DEBUG)
    try:
        async with serving(reply_to) as server, calling(server.url, auth=auth_of(server.url)) as client:
            for writes in (True, False):
                try:
                    answer = await client.call("POST", "/x", json={}, params={"key": secret}, writes=writes)
                    texts.append(repr(answer))
                except PipelineError as error:
                    texts += [str(error), repr(error), repr(getattr(error, "fault", None))]
                    texts += [str(error.__cause__), repr(error.__cause__)]
    finally:
        logger.remove(sink)
        root.removeHandler(handler)
        root.setLevel(before)
    return "\n".join(texts)


def session(secret: str, url: str) -> SessionLogin:
    packed = base64.b64encode(f"ada:2:{secret}-session".encode()).decode()
    return SessionLogin(
        lambda: httpx.Request("POST", f"{url}/token", json={"password": secret}),
        lambda answer: {"Authorization": Secret(f"Session {packed}")},
        Secret(secret),
    )


AUTHS = {
    "session": session,
    "client in the header": lambda secret, url: ClientCredentials(
        f"{url}/token", ClientProof(client_id="ada", client_secret=Secret(secret))
    ),
    "bearer": lambda secret, url: Bearer(Secret(secret)),
    "basic": lambda secret, url: Basic("ada", Secret(secret)),
    "key": lambda secret, url: ApiKey(Secret(secret), "X-Api-Key"),
    "client": lambda secret, url: ClientCredentials(
        f"{url}/token", ClientProof(client_id="c", client_secret=Secret(secret), in_form=True)
    ),
}
ECHOES = {
    "refused in JSON": lambda said: Reply(status=400, body={"message": f"not {said}"}),
    "refused in text": lambda said: Reply(status=403, body=f"<p>{said}</p>"),
    "not let in": lambda said: Reply(status=401, body={"error": said}),
    "an error page": lambda said: Reply(status=500, body=f"Traceback: {said}"),
    "a page": lambda said: Reply(status=200, body=said),
}


@pytest.mark.parametrize("echo", ECHOES)
@pytest.mark.parametrize("strategy", AUTHS)
@settings(max_examples=5, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(secret=HEADER_SECRETS)
async def test_a_target_that_quotes_our_secret_tells_nobody(strategy, echo, secret):
    def reply_to(request: Request) -> Reply:
        sent = " ".join([*request.headers.values(), *request.query.values(), request.body.decode(), secret])
        return ECHOES[echo](sent)

    text = await said_about(secret, lambda url: AUTHS[strategy](secret, url), reply_to)
    assert "/x" in text or "/token" in text
    assert secret not in text
    assert base64.b64encode(f"ada:{secret}".encode()).decode() not in text
