"""The proxy does to connections what it says: what other tests prove depends on it."""

from __future__ import annotations

import socket
import threading
from contextlib import contextmanager, suppress

import pytest

from tests.failures.fleet import wait_until
from tests.failures.proxy import HOST, Proxy, Traffic, Weather

PATIENCE = 5.0
SHORT = 0.1


class Echo:
    """A server that answers everything with itself."""

    def __init__(self):
        self.heard = []
        self.socket = socket.create_server((HOST, 0))
        self.address = self.socket.getsockname()
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self):
        with suppress(OSError):
            while True:
                connection, _ = self.socket.accept()
                threading.Thread(target=self._serve, args=(connection,), daemon=True).start()

    def _serve(self, connection):
        with suppress(OSError), connection:
            while data := connection.recv(1000):
                self.heard.append(data)
                connection.sendall(data)


@pytest.fixture
def echo():
    server = Echo()
    yield server
    # Closing alone would not end the accept that is under way.
    server.socket.shutdown(socket.SHUT_RDWR)
    server.socket.close()


@contextmanager
def connected(proxy):
    with socket.create_connection((HOST, proxy.port), timeout=PATIENCE) as connection:
        yield connection


def ask(connection, text):
    connection.sendall(text)
    return connection.recv(1000)


def is_ended(connection):
    """Whether the other end is gone."""
    try:
        return connection.recv(1000) == b""
    except ConnectionError:
        return True


def is_mute(connection):
    connection.settimeout(SHORT)
    try:
        connection.recv(1000)
    except TimeoutError:
        return True
    finally:
        connection.settimeout(PATIENCE)
    return False


def test_it_carries_and_counts(echo):
    """Bytes both ways, connections, and one round trip for each question with its answer."""
    with Proxy(echo.address) as proxy, connected(proxy) as one, connected(proxy) as other:
        assert ask(one, b"abc") == b"abc"
        assert ask(one, b"de") == b"de"
        assert ask(other, b"f") == b"f"
        assert proxy.traffic == Traffic(connections=2, round_trips=3, sent=6, received=6)


def test_a_lost_reply(echo):
    """What is sent arrives; its answer is lost with the connection, and the next connection works."""
    with Proxy(echo.address) as proxy:
        with connected(proxy) as connection:
            assert ask(connection, b"one") == b"one"
            proxy.lose_replies()
            connection.sendall(b"two")
            assert is_ended(connection)
        with connected(proxy) as connection:
            assert ask(connection, b"three") == b"three"
        assert echo.heard == [b"one", b"two", b"three"]
        assert proxy.lost == 1


def test_a_lost_request(echo):
    """What is sent does not arrive."""
    with Proxy(echo.address) as proxy, connected(proxy) as connection:
        proxy.weather = Weather(lose_request=1.0)
        connection.sendall(b"one")
        assert is_ended(connection)
        assert echo.heard == []


def test_refusing_and_turning_away(echo):
    """Connections end, and there are none until they are let in again: by not listening, or by hanging up."""
    with Proxy(echo.address) as proxy:
        with connected(proxy) as connection:
            assert ask(connection, b"one") == b"one"
            proxy.refuse()
            assert is_ended(connection)
            with pytest.raises(ConnectionRefusedError), connected(proxy):
                pass
            proxy.accept()
        proxy.turn_away()
        before = proxy.traffic.connections
        # It may be gone before we are told that it was there.
        with suppress(ConnectionResetError), connected(proxy) as connection:
            assert is_ended(connection)
        assert proxy.traffic.connections == before + 1
        proxy.let_in()
        with connected(proxy) as connection:
            assert ask(connection, b"two") == b"two"
            proxy.cut()
            assert is_ended(connection)


def test_silence(echo):
    """Nobody hears anything until it speaks again; then all arrives."""
    with Proxy(echo.address) as proxy, connected(proxy) as connection:
        assert ask(connection, b"one") == b"one"
        proxy.fall_silent()
        connection.sendall(b"two")
        assert is_mute(connection)
        proxy.speak()
        assert connection.recv(1000) == b"two"


def test_stranded_connections(echo):
    """Those that were there are dead without knowing it; new ones work."""
    with Proxy(echo.address) as proxy, connected(proxy) as old:
        assert ask(old, b"one") == b"one"
        proxy.strand()
        old.sendall(b"two")
        with connected(proxy) as new:
            assert ask(new, b"three") == b"three"
        assert is_mute(old)
        assert echo.heard == [b"one", b"three"]


def test_late_requests(echo):
    """What is late arrives nevertheless, in order."""
    with Proxy(echo.address) as proxy, connected(proxy) as connection:
        proxy.weather = Weather(delay=1.0, longest=0.01)
        for text in (b"one", b"two"):
            assert ask(connection, text) == text
        wait_until(lambda: proxy.traffic.round_trips == 2, "both were answered")
