"""Signed JWT: a token endpoint that is shown an assertion signed with our private key (RFC 7523)."""

import time
import uuid
from collections.abc import Callable, Mapping
from datetime import UTC, datetime, timedelta
from typing import Any, Literal

import jwt

from connectors.http.oauth import TokenEndpoint
from connectors.http.secrets import Secret

JWT_BEARER = "urn:ietf:params:oauth:grant-type:jwt-bearer"
CLIENT_ASSERTION = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer"

#: Salesforce takes an assertion for three minutes at most, NetSuite for an hour.
assertion_lifetime_ms = 180_000


class SignedJwt(TokenEndpoint):
    """OAuth 2 with a signed assertion: as the grant itself (Salesforce), or as the client's proof (NetSuite).

    `private_key` is a PEM, `key_id` the certificate's id in the header `kid`, `claims` are added to `iss`, `sub`,
    `aud` (the token URL unless given), `iat`, `exp` and `jti`, or replace them. `more` are further form fields.

    Raises:
      ValueError: the key is not a PEM for the algorithm. It is not quoted.
    """

    def __init__(
        self,
        token_url: str,
        private_key_pem: str,
        *,
        issuer: str,
        subject: str | None = None,
        audience: str | None = None,
        key_id: str | None = None,
        algorithm: Literal["RS256", "PS256", "ES256"] = "RS256",
        as_client_proof: bool = False,
        claims: Mapping[str, Any] | None = None,
        more: Mapping[str, str] | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        # A PEM has line breaks, which a Secret does not take: only its body's lines are looked for in texts.
        lines = (line for line in private_key_pem.split() if len(line) > 40)
        super().__init__(token_url, *map(Secret, lines), clock=clock)
        self._algorithm, self._key_id, self._as_client_proof = algorithm, key_id, as_client_proof
        self._claims: dict[str, Any] = {"iss": issuer, "aud": audience or token_url}
        self._claims |= {"sub": subject} if subject else {}
        self._claims |= claims or {}
        self._more = dict(more or {})
        try:
            self._key = jwt.get_algorithm_by_name(algorithm).prepare_key(private_key_pem)
            self._assertion()
        except Exception:
            raise ValueError(f"the private key of {issuer} is not a PEM that can sign {algorithm}") from None

    def form(self) -> dict[str, str]:
        assertion = self._assertion()
        if self._as_client_proof:
            proof = {"client_assertion_type": CLIENT_ASSERTION, "client_assertion": assertion}
            return {"grant_type": "client_credentials", **proof, **self._more}
        return {"grant_type": JWT_BEARER, "assertion": assertion, **self._more}

    def _assertion(self) -> str:
        now = datetime.now(UTC)
        expires = now + timedelta(milliseconds=assertion_lifetime_ms)
        claims = {"iat": now, "exp": expires, "jti": str(uuid.uuid4()), **self._claims}
        assertion = jwt.encode(
            claims, self._key, self._algorithm, headers={"kid": self._key_id} if self._key_id else None
        )
        self.redactor.know_for_now(assertion)
        return assertion
