"""Real servers for the acceptance tests: a database, a vhost-like prefix and nothing shared between runs."""

import pytest


@pytest.fixture
def servers(postgresql_url: str, amqp_url: str, prefix: str) -> dict[str, str]:
    """Environment variables of a deployment of its own on the real servers."""
    return {"DATABASE_URL": postgresql_url, "AMQP_URL": amqp_url, "TIEOUT_PREFIX": prefix}
