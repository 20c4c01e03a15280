"""Servers of one's own: they start from wheels, keep what they promised, and leave nothing behind."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

import psycopg
import pytest
import redis

from perdure.adapters.ephemeral import PostgresServer, RedisServer, ServerError, ServerNotInstalledError, ValkeyServer
from perdure.adapters.ephemeral import server as server_module
from perdure.adapters.ephemeral.postgres import WHEEL
from perdure.adapters.ephemeral.wheel import Wheel
from perdure.errors import InvalidStateError
from tests import servers
from tests.e2e.processes import wait_until

if TYPE_CHECKING:
    from perdure.adapters.ephemeral import Server

KINDS = [PostgresServer, RedisServer, ValkeyServer]
SEGMENTS = Path("/proc/sysvipc/shm")
OWNER = """
import sys, time
from perdure.adapters import ephemeral
server = getattr(ephemeral, sys.argv[1])()
server.start()
print(server.pid, server.room, server.url, flush=True)
time.sleep(600)
"""

every_kind = pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.__name__)


def write(url: str, value: int) -> None:
    if url.startswith("postgresql"):
        with psycopg.connect(url) as connection:
            connection.execute("create table if not exists kept (value int)")
            connection.execute("insert into kept values (%s)", (value,))
    else:
        with redis.Redis.from_url(url) as client:
            client.sadd("kept", value)


def read(url: str) -> set[int]:
    if url.startswith("postgresql"):
        with psycopg.connect(url) as connection:
            return {value for (value,) in connection.execute("select value from kept")}
    with redis.Redis.from_url(url) as client:
        return {int(value) for value in client.smembers("kept")}


def is_gone(pid: int) -> bool:
    """Whether no such process is left; one whose end nobody has asked about yet counts as gone."""
    try:
        return ") Z " in Path(f"/proc/{pid}/stat").read_text()
    except FileNotFoundError:
        return True


def segments(pid: int) -> list[str]:
    """The System V segments that a process has made."""
    lines = SEGMENTS.read_text().splitlines()[1:] if SEGMENTS.exists() else []
    return [line for line in lines if line.split()[4] == str(pid)]


def processes_of(room: Path) -> list[str]:
    """The processes whose command line names this folder."""
    found = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            command = path.read_text().replace("\0", " ")
        except OSError:
            continue
        if str(room) in command:
            found.append(command)
    return found


@every_kind
def test_it_leaves_nothing_behind(kind: type[Server]) -> None:
    """Neither processes nor files nor shared memory, also after a SIGKILL that was not followed by a start."""
    with kind() as server:
        write(server.url, 1)
        pid, room = server.pid, server.room
        assert not is_gone(pid)
        assert len(segments(pid)) == (SEGMENTS.exists() and kind is PostgresServer)
        server.kill()
        assert is_gone(pid)
    assert not room.exists()
    assert processes_of(room) == []
    assert segments(pid) == []
    with pytest.raises(InvalidStateError, match="does not run"):
        _ = server.pid


@every_kind
def test_it_ends_with_its_owner(kind: type[Server]) -> None:
    """When the process that started it is killed it stops, although a client is connected, and is cleared away."""
    with subprocess.Popen([sys.executable, "-c", OWNER, kind.__name__], stdout=subprocess.PIPE, text=True) as owner:
        pid, room, url = owner.stdout.readline().split()
        assert not is_gone(int(pid))
        connection = psycopg.connect(url) if kind is PostgresServer else redis.Redis.from_url(url).client()
        owner.kill()
    wait_until(lambda: not Path(room).exists(), "its folder is gone")
    connection.close()
    assert is_gone(int(pid))


@every_kind
@pytest.mark.parametrize("durable", [True, False])
def test_what_was_written_survives_a_kill(kind: type[Server], durable: bool) -> None:
    """Durable or not: an answered write is there after SIGKILL and start, and after a restart, at the same URL."""
    with kind(durable=durable) as server:
        url, pid = server.url, server.pid
        write(url, 1)
        server.kill()
        server.start()
        write(url, 2)
        server.restart()
        assert read(url) == {1, 2}
        assert (server.url, server.pid != pid) == (url, True)


@every_kind
def test_a_given_directory_stays(kind: type[Server], tmp_path: Path) -> None:
    """Its data is found by the next server that gets it, however long its name is."""
    directory = tmp_path / ("long" * 20) / "with a space"
    for value in (1, 2):
        with kind(directory, durable=False) as server:
            write(server.url, value)
            assert server.directory == directory
            assert server.log.is_file()
    with kind(directory, durable=False) as server:
        assert read(server.url) == {1, 2}


@every_kind
def test_a_port_is_for_those_who_know_the_password(kind: type[Server]) -> None:
    """It listens on 127.0.0.1 only if asked to, and then lets nobody in who does not have its URL."""
    with kind(port=0, durable=False) as server:
        write(server.url, 1)
        assert f"@127.0.0.1:{server.port}" in server.url
        password = server.url.split(":")[2].partition("@")[0]
        with pytest.raises((psycopg.OperationalError, redis.AuthenticationError)):
            read(server.url.replace(password, "guessed"))
        port = server.port
        server.restart()
        assert server.port == port
        assert read(server.url) == {1}


@every_kind
def test_a_port_that_somebody_else_has_taken(kind: type[Server], monkeypatch: pytest.MonkeyPatch) -> None:
    """Any free port is another one then; one that was asked for is an error that has the server's words."""
    with socket.create_server((server_module.HOST, 0)) as other:
        (_, taken), choose = other.getsockname(), server_module.free_port
        ports = iter([taken])
        monkeypatch.setattr(server_module, "free_port", lambda: next(ports, None) or choose())
        with kind(port=0, durable=False) as found:
            assert found.port != taken
            write(found.url, 1)
        with pytest.raises(ServerError, match=str(taken)), kind(port=taken, durable=False):
            pass


@every_kind
def test_a_long_name_of_the_folder_for_temporary_files(
    kind: type[Server], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Sockets, whose names have to be short, are elsewhere then."""
    folder = tmp_path / ("long" * 20)
    folder.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(folder))
    with kind(durable=False) as found:
        write(found.url, 1)
        assert not found.room.is_relative_to(folder)


@every_kind
def test_settings_come_last(kind: type[Server]) -> None:
    """What the caller sets counts, also against what the server would be given anyway."""
    name, value = ("max_connections", 23) if kind is PostgresServer else ("maxmemory-policy", "allkeys-lru")
    with kind(durable=False, settings={name: value}) as server:
        if kind is PostgresServer:
            with psycopg.connect(server.url) as connection:
                assert connection.execute("show max_connections").fetchone() == ("23",)
        else:
            with redis.Redis.from_url(server.url, decode_responses=True) as client:
                assert client.config_get(name) == {name: value}


@every_kind
def test_one_that_does_not_start_says_why(kind: type[Server]) -> None:
    """The error has the last words of its log, and nothing is left running."""
    server = kind(durable=False, settings={"no_such_setting": 1})
    with pytest.raises(ServerError, match="no_such_setting"):
        server.start()
    with pytest.raises(InvalidStateError):
        _ = server.room


def test_a_missing_wheel_is_named() -> None:
    """The error says what to install."""
    with pytest.raises(ServerNotInstalledError, match=r"not installed; install 'perdure\[servers\]'"):
        Wheel("nothing-like-it", "no_such_package_anywhere", ("bin",)).program("postgres")
    with pytest.raises(ServerNotInstalledError, match="no build of it for this machine"):
        Wheel("pytest", "pytest", ("bin",)).program("postgres")


def test_a_run_has_one_server_for_all(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The first one that asks starts it, the last one that leaves ends it, and a later one starts another."""
    monkeypatch.delenv("PERDURE_TEST_VALKEY", raising=False)
    with servers.shared("valkey", tmp_path) as one:
        held = servers.shared("valkey", tmp_path)
        other = held.__enter__()
        assert other == one
    write(one.url, 1)
    held.__exit__(None, None, None)
    wait_until(lambda: is_gone(one.pid), "it has ended")
    with servers.shared("valkey", tmp_path) as next_one:
        assert next_one.pid != one.pid


def test_another_server_can_be_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """With the variable of its kind set, nothing is started."""
    monkeypatch.setenv("PERDURE_TEST_REDIS", "redis://elsewhere:6379/0")
    with servers.shared("redis", tmp_path) as server:
        assert (server.url, server.pid) == ("redis://elsewhere:6379/0", None)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.skipif(os.geteuid() != 0, reason="is about root")
def test_root_needs_no_open_folders(tmp_path: Path) -> None:
    """PostgreSQL does not run as root, and yet its data may lie where only root comes."""
    closed = tmp_path / "closed"
    closed.mkdir(mode=0o700)
    with PostgresServer(closed / "data", durable=False) as server:
        assert Path(f"/proc/{server.pid}").stat().st_uid != 0
        assert server.directory.stat().st_uid != 0


@pytest.mark.skipif(os.geteuid() != 0, reason="is about root")
def test_root_needs_no_open_environment(tmp_path: Path) -> None:
    """Nor do its programs, which look for each other by access(2): an environment of tox is closed to all others."""
    closed = tmp_path / "closed"
    closed.mkdir(mode=0o700)
    installed = WHEEL.program("initdb").parents[1]
    site, package = installed.parents[1], installed.parent.name
    programs = closed / package / installed.name
    shutil.copytree(installed, programs)
    shutil.copytree(site / f"{package}.libs", closed / f"{package}.libs")
    with PostgresServer(tmp_path / "data", durable=False, programs=programs / "bin") as server:
        write(server.url, 1)
        assert read(server.url) == {1}
