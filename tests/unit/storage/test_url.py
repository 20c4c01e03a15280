"""Backend URLs: what is wrong, what to do, and nothing secret."""

from __future__ import annotations

import pytest

from perdure.errors import BackendUrlError
from perdure.storage import mask, open_backend


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("sqlite:///a/b.db", "sqlite:///a/b.db"),
        ("postgresql://ada:secret@host:5432/db", "postgresql://ada:***@host:5432/db"),
        ("redis://:secret@host/0?password=secret&db=1", "redis://:***@host/0?password=***&db=***"),
        ("redis://ada:sec/ret@host/0", "redis://ada:***@host/0"),
        ("postgresql://ada:sec?ret@host/db?schema=x", "postgresql://ada:***@host/db?schema=***"),
        ("postgresql://ada:s@ec/ret@host/db", "postgresql://ada:***@host/db"),
        ("redis://ada:secret@host/0?client_name=a@b", "redis://ada:***@host/0?client_name=***"),
        ("sqlite:///data/a@b/c.db", "sqlite:///data/a@b/c.db"),
        ("nonsense", "nonsense"),
    ],
)
def test_a_url_is_shown_without_its_secrets(url, shown):
    """Neither the password nor the value of an option."""
    assert mask(url) == shown


@pytest.mark.parametrize(
    "url", ["nosuch://ada:secret@host/x?token=secret", "sqlite://ada:secret@host/x.db", "nonsense", "sqlite:x.db"]
)
def test_a_url_that_opens_nothing(url):
    """The error names the schemes there are, or the right form."""
    with pytest.raises(BackendUrlError, match="://") as raised:
        open_backend(url)
    assert "secret" not in str(raised.value)
