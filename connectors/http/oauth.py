"""OAuth 2 token endpoints: client credentials and refresh tokens. `signed_jwt` has the grant that signs."""

import base64
import time
from abc import abstractmethod
from collections.abc import Awaitable, Callable, Mapping
from urllib.parse import quote_plus

import httpx
import msgspec

from connectors.http.answer import Answer
from connectors.http.auth import Fetched, Pass
from connectors.http.pointers import first
from connectors.http.secrets import Secret

#: A token is renewed this long before it expires, or after nine tenths of its life if that is sooner.
renewed_before_ms = 60_000


class TokenEndpoint(Fetched):
    """OAuth 2: a token endpoint, asked with a form. The base of the grants."""

    def __init__(self, token_url: str, *secrets: Secret, clock: Callable[[], float] = time.monotonic) -> None:
        super().__init__(*secrets, clock=clock)
        self.token_url = token_url

    @abstractmethod
    def form(self) -> dict[str, str]:
        """The grant as form fields, and the client's own proof unless it stands in `headers`."""

    def headers(self) -> dict[str, str]:
        return {}

    def ask(self) -> httpx.Request:
        headers = {"Accept": "application/json", "Accept-Encoding": "gzip", **self.headers()}
        return httpx.Request("POST", self.token_url, data=self.form(), headers=headers)

    async def take(self, answer: Answer) -> Pass:
        token = first(answer.body, ("/access_token",))
        if not isinstance(token, str):
            raise self.failure(answer)
        return Pass({"Authorization": Secret(f"Bearer {token}")}, self._until(first(answer.body, ("/expires_in",))))

    def _until(self, expires_in: object) -> float | None:
        """None where the answer does not say: then until it is refused (Salesforce)."""
        try:
            seconds = float(str(expires_in))
        except ValueError:
            return None
        return self._clock() + max(seconds - renewed_before_ms / 1000, seconds * 0.9)


class ClientProof(msgspec.Struct, frozen=True, kw_only=True):
    """Who the client is, to a token endpoint: in the header (RFC 6749 wants every server to take it) or in the form."""

    client_id: str
    client_secret: Secret
    in_form: bool = False

    def secrets(self) -> tuple[Secret, Secret]:
        """Both ways in which the secret travels."""
        return self.client_secret, Secret(self._pair())

    def form(self) -> dict[str, str]:
        if not self.in_form:
            return {}
        return {"client_id": self.client_id, "client_secret": self.client_secret.reveal()}

    def headers(self) -> dict[str, str]:
        if self.in_form:
            return {}
        return {"Authorization": f"Basic {self._pair()}"}

    def _pair(self) -> str:
        pair = f"{quote_plus(self.client_id)}:{quote_plus(self.client_secret.reveal())}"
        return base64.b64encode(pair.encode()).decode()


class ClientCredentials(TokenEndpoint):
    """OAuth 2 client credentials. `more` are further form fields (`resource`, `audience`)."""

    def __init__(
        self,
        token_url: str,
        client: ClientProof,
        *,
        scope: str | None = None,
        more: Mapping[str, str] | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        super().__init__(token_url, *client.secrets(), clock=clock)
        self._client = client
        self._form = {"grant_type": "client_credentials", **({"scope": scope} if scope else {}), **(more or {})}

    def form(self) -> dict[str, str]:
        return {**self._form, **self._client.form()}

    def headers(self) -> dict[str, str]:
        return self._client.headers()


class RefreshToken(TokenEndpoint):
    """OAuth 2 refresh token. Where the server hands out a new one with each use, `rotated` is awaited with it.

    The old one is void by then: `rotated` has to keep the new one before it returns, or the next start is locked out.
    """

    def __init__(
        self,
        token_url: str,
        refresh_token: Secret,
        client: ClientProof,
        *,
        rotated: Callable[[Secret], Awaitable[None]] | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        super().__init__(token_url, refresh_token, *client.secrets(), clock=clock)
        self._refresh_token, self._client, self._rotated = refresh_token, client, rotated

    def form(self) -> dict[str, str]:
        grant = {"grant_type": "refresh_token", "refresh_token": self._refresh_token.reveal()}
        return {**grant, **self._client.form()}

    def headers(self) -> dict[str, str]:
        return self._client.headers()

    async def take(self, answer: Answer) -> Pass:
        taken = await super().take(answer)
        renewed = first(answer.body, ("/refresh_token",))
        if isinstance(renewed, str) and Secret(renewed) != self._refresh_token:
            self._refresh_token = Secret(renewed)
            self.redactor.know_for_now(self._refresh_token)
            if self._rotated is not None:
                await self._rotated(self._refresh_token)
        return taken
