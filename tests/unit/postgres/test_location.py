"""What a URL says, and what it may not say."""

import traceback

import pytest

from perdure.backends.postgres import backend
from perdure.backends.postgres.location import Location
from perdure.errors import BackendUrlError
from perdure.storage import open_backend

URL = "postgresql://ann:s3cret@db.example:6432/orders"


def test_options_are_ours_or_libpqs():
    """Our own options are taken out of the URL; all others are the connection's."""
    location = Location.parse(
        f"{URL}?schema=flows&migrate=refuse&sslmode=require&pooler=transaction&notify=off&pool_size=3"
        "&application_name=a%20b"
    )
    assert (location.schema, location.migrate, location.pooler) == ("flows", "refuse", "transaction")
    assert (location.notify, location.pool_size) == (False, 3)
    assert dict(location.parameters) == {
        "user": "ann",
        "password": "s3cret",
        "host": "db.example",
        "port": "6432",
        "dbname": "orders",
        "sslmode": "require",
        "application_name": "a b",
    }


def test_defaults():
    """Without options there is a schema of our own, which is migrated as needed."""
    location = Location.parse("postgres:///orders")
    assert (location.schema, location.migrate, location.pooler, location.notify) == ("perdure", "auto", "auto", True)


@pytest.mark.parametrize(
    ("query", "told"),
    [
        ("skema=x", "has no option 'skema'; it has schema, migrate, pooler, notify, pool_size"),
        ("schema=a-b", "option schema is 'a-b'"),
        ("schema=pg_x", "option schema is 'pg_x'"),
        ("schema=", "option schema is ''"),
        ("migrate=yes", "option migrate is 'yes', expected one of auto, refuse"),
        ("pooler=session", "option pooler is 'session'"),
        ("notify=1", "option notify is '1', expected one of on, off"),
        ("pool_size=0", "option pool_size is '0'"),
        ("pool_size=many", "option pool_size is 'many'"),
    ],
)
def test_wrong_options(query, told):
    """An option that does not exist, or has a wrong value, is named with what there is."""
    with pytest.raises(BackendUrlError) as caught:
        Location.parse(f"{URL}?{query}")
    assert told in str(caught.value)


@pytest.mark.parametrize(
    "url",
    ["postgresql:/x", "mysql://x/y", "postgresql://ann:s3cret@db%zz/x", "postgresql://ann:s3cret@[db/x"],
)
def test_malformed(url):
    """A malformed URL is answered with how one looks, and without its password."""
    with pytest.raises(BackendUrlError, match="postgresql://user:password@host:5432/database") as caught:
        Location.parse(url)
    assert "s3cret" not in "".join(traceback.format_exception(caught.value))


def test_passwords_are_not_shown():
    """Neither a location nor a backend shows the password."""
    assert "s3cret" not in repr(Location.parse(URL))
    assert "s3cret" not in repr(backend(URL))
    assert "s3cret" not in Location.parse(URL).place
    assert open_backend(URL).url == "postgresql://ann:***@db.example:6432/orders"


def test_settings_of_the_user_win():
    """Settings of sessions may be given in the URL, but for those that statements depend on."""
    options = Location.parse(f"{URL}?options=-c%20statement_timeout%3D5s%20-c%20synchronous_commit%3Doff").connection(
        sets_session=True
    )["options"]
    assert options.index("statement_timeout=60s") < options.index("statement_timeout=5s")
    assert "synchronous_commit=off" in options
    assert options.index("statement_timeout=5s") < options.index("default_transaction_isolation=read\\ committed")
    assert "options" not in Location.parse(URL).connection(sets_session=False)
