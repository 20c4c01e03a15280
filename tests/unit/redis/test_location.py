"""URLs of Redis stores."""

import pytest

from perdure.backends.redis import RedisStore
from perdure.backends.redis.location import Location
from perdure.errors import BackendUrlError
from perdure.storage import open_backend


def test_plain():
    """A URL needs no more than its scheme; everything has a default."""
    place = Location.parse("redis://")
    assert (place.nodes, place.db, place.namespace, place.durability) == ((("localhost", 6379),), 0, "perdure", "async")
    assert (place.is_cluster, place.ssl, place.shards, place.default_shards) == (False, None, None, 1)


def test_everything():
    """Host, port, database and credentials are read as redis-py reads them, percent signs decoded."""
    place = Location.parse("redis://us%40er:pa%3Ass@[::1]:7000/3?shards=8&timeout=2.5&notify=off&durability=FSYNC")
    assert (place.nodes, place.db, place.username, place.password) == ((("::1", 7000),), 3, "us@er", "pa:ss")
    assert (place.shards, place.timeout, place.notify, place.durability) == (8, 2.5, False, "fsync")


def test_socket():
    """A socket is named by its path, and a database by an option."""
    place = Location.parse("unix:///tmp/my%20socket?db=2&password=x")
    assert (place.path, place.db, place.password, place.place) == ("/tmp/my socket", 2, "x", "/tmp/my socket")


def test_tls():
    """rediss:// is TLS with redis-py's options; a cluster asks for it by an option."""
    place = Location.parse("rediss://host?ssl_ca_certs=/ca.pem&ssl_check_hostname=false")
    assert place.ssl == {"ssl_ca_certs": "/ca.pem", "ssl_check_hostname": False}
    assert Location.parse("redis+cluster://host?ssl=true").ssl == {}
    with pytest.raises(BackendUrlError, match="write rediss://"):
        Location.parse("redis://host?ssl_ca_certs=/ca.pem")


def test_cluster():
    """A cluster has 16 shards unless told otherwise, and may be named by several members."""
    place = Location.parse("redis+cluster://a:1,b:2")
    assert (place.is_cluster, place.nodes, place.default_shards) == (True, (("a", 1), ("b", 2)), 16)


def test_passwords_are_not_shown():
    """Neither a location nor an error nor a backend shows a password or the value of an option."""
    url = "redis://user:s3cret@host/0?password=s3cret"
    assert "s3cret" not in repr(Location.parse(url))
    assert "s3cret" not in open_backend(url).url
    for wrong in (
        "redis://user:s3cret@host:port/0",
        "redis://u:s3cret@h/0?colour=s3cret",
        "redis://u:s3cret@h/s",
        "redis://u:s3cret/@h/0",
    ):
        with pytest.raises(BackendUrlError) as caught:
            Location.parse(wrong)
        assert "s3cret" not in str(caught.value)


@pytest.mark.parametrize("scheme", ["redis", "rediss", "unix", "redis+cluster"])
def test_schemes(scheme):
    """All four schemes lead here."""
    assert isinstance(
        open_backend(f"{scheme}://place/path").store if scheme == "unix" else store_of(scheme), RedisStore
    )


def store_of(scheme):
    return open_backend(f"{scheme}://host").store


@pytest.mark.parametrize(
    ("url", "remedy"),
    [
        ("postgresql://host", "redis://host:6379/0"),
        ("redis:host", "redis://host:6379/0"),
        ("redis://host:99999", "redis://host:6379/0"),
        ("redis://a,b", r"write redis\+cluster://"),
        ("unix://", "unix:///path/to/socket"),
        ("unix:///s?ssl=true", "no TLS"),
        ("redis://host/one", "option db is 'one', expected a number from 0"),
        ("redis+cluster://host/1", "set the option namespace"),
        ("redis://host?colour=red", "has no option 'colour'; it has shards, namespace"),
        ("redis://host?shards=0", "expected a number from 1 to 4096"),
        ("redis://host?shards=4097", "expected a number from 1 to 4096"),
        ("redis://host?namespace=a{b}", "letters, digits"),
        ("redis://host?durability=strong", "async, fsync, replicated"),
        ("redis://host?replicas=0", "a number from 1"),
        ("redis://host?timeout=never", "number of seconds"),
        ("redis://host?connect_timeout=0", "number of seconds above 0"),
        ("redis://host?notify=maybe", "on, off"),
        ("redis://host?client_name=", "is empty"),
    ],
)
def test_wrong_urls(url, remedy):
    """A URL that cannot be meant is refused with what to write instead."""
    with pytest.raises(BackendUrlError, match=remedy):
        Location.parse(url)
