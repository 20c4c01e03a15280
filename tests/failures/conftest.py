"""The grounds on which failures are played."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.failures.ground import Ground

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture(params=["sqlite", "postgres", "redis"])
def ground(request: pytest.FixtureRequest, tmp_path: Path) -> Ground:
    """Each store in turn."""
    return _ground(request, tmp_path)


@pytest.fixture(params=["postgres", "redis"])
def served(request: pytest.FixtureRequest, tmp_path: Path) -> Ground:
    """Each store that has a server."""
    return _ground(request, tmp_path)


def _ground(request: pytest.FixtureRequest, folder: Path) -> Ground:
    kind: str = request.param
    url = f"sqlite:///{folder / 'store.db'}" if kind == "sqlite" else request.getfixturevalue(f"{kind}_url")
    return Ground(kind, url, folder)
