"""What the end-to-end tests run on."""

from __future__ import annotations

import pytest

FIXTURES = {"postgres": "postgres_url", "redis": "redis_url", "valkey": "valkey_url"}
STORES = ["sqlite", "postgres", "redis"]


@pytest.fixture(params=STORES)
def url(request: pytest.FixtureRequest, tmp_path) -> str:
    """A backend of the test's own that several processes can share, on every kind of store."""
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path / 'store.db'}"
    return request.getfixturevalue(FIXTURES[request.param])
