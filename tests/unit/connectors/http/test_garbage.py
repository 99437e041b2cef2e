"""Servers that send anything at all: a call still ends with an answer or with an error of the pipeline's."""

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from connectors.http.client import HttpClient, Timeouts
from pipeline.errors import OutcomeUnknown, PipelineError
from tests.unit.connectors.http.calling import calling
from tests.unit.connectors.http.platforms import SALESFORCE, TRYTON
from tests.unit.connectors.http.server import Reply, serving

HEADERS = st.dictionaries(
    st.sampled_from(
        ["Content-Type", "Content-Encoding", "Location", "Retry-After", "Set-Cookie", "Transfer-Encoding", "X-Any"]
    ),
    st.one_of(
        st.binary(max_size=40),
        st.sampled_from(
            [b"application/json", b"text/html; charset=utf-16", b"text/plain; charset=idna", b"gzip", b"deflate", b"br"]
        ),
        st.sampled_from([b"chunked", b"http://[::", b"//", b"\xff", b"Sat, 99 Nov 2026", b"1e400", b"-1"]),
    ),
    max_size=4,
)
JSON = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(), st.text(max_size=20), st.floats()),
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(
            st.sampled_from(["error", "errors", "message", "success", "0", "errorCode"]), inner, max_size=4
        )
    ),
)
ANYTHING = settings(max_examples=60, deadline=None, suppress_health_check=list(HealthCheck))


async def survives(reply: Reply) -> None:
    async with serving(lambda request: reply) as server:
        for shape in (TRYTON, SALESFORCE):
            options = {"answer_bytes_max": 2000, "read_attempts_max": 1, "timeouts": Timeouts(read_ms=200)}
            async with calling(server.url, errors=shape, **options) as client:
                for writes in (True, False):
                    error = await ending(client, writes)
                    assert writes or not isinstance(error, OutcomeUnknown)
                    assert len(str(error)) < 3000


async def ending(client: HttpClient, writes: bool) -> PipelineError | None:
    try:
        answer = await client.call("POST", "/", json={}, writes=writes)
    except PipelineError as error:
        return error
    try:
        client.outcomes(answer, 1)
    except OutcomeUnknown:
        return None
    return None


@ANYTHING
@given(st.binary(max_size=300))
async def test_any_bytes_instead_of_an_answer(raw):
    await survives(Reply(raw=raw))


@ANYTHING
@given(st.integers(100, 999), HEADERS, st.binary(max_size=300), st.booleans())
async def test_any_status_headers_and_body(status, headers, body, honest):
    lines = b"".join(name.encode() + b": " + value + b"\r\n" for name, value in headers.items())
    length = b"Content-Length: %d\r\n" % (len(body) + (0 if honest else 7))
    await survives(Reply(raw=b"HTTP/1.1 %d X\r\n" % status + lines + length + b"\r\n" + body))


@ANYTHING
@given(st.sampled_from([200, 207, 400, 500]), st.lists(JSON, max_size=3) | st.dictionaries(st.text(max_size=5), JSON))
async def test_any_json(status, body):
    await survives(Reply(status=status, body=body))
