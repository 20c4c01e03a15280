"""A master and its replica."""

from __future__ import annotations

import os
import signal
import time
from contextlib import ExitStack
from typing import Self

import redis

from perdure.adapters.ephemeral import RedisServer
from perdure.backends.redis import Location

PATIENCE = 20.0
SETTINGS = {"repl-diskless-sync-delay": 0}


class Pair:
    """Two servers with the same password, the second one replicating the first."""

    def __init__(self, kind: type[RedisServer] = RedisServer) -> None:
        self._kind = kind
        self._stack = ExitStack()

    def __enter__(self) -> Self:
        with self._stack as stack:
            self.master, self.replica = [
                stack.enter_context(self._kind(port=0, durable=False, settings=SETTINGS)) for _ in range(2)
            ]
            self.on_master, self.on_replica = [
                stack.enter_context(redis.Redis.from_url(server.url)) for server in (self.master, self.replica)
            ]
            password = Location.parse(self.master.url).password
            for client in (self.on_master, self.on_replica):
                client.config_set("requirepass", password)
                client.config_set("masterauth", password)
                client.connection_pool.connection_kwargs["password"] = password
            self.url = self.master.url
            self.replica_url = f"redis://:{password}@127.0.0.1:{self.replica.port}/0"
            self.on_replica.replicaof("127.0.0.1", self.master.port)
            self.until_linked(self.on_replica)
            self._stack = stack.pop_all()
        return self

    def __exit__(self, *exception: object) -> None:
        self.go_on()
        # What a server tidies up at an orderly end takes long in the middle of a replication.
        self.master.kill()
        self.replica.kill()
        self._stack.close()

    def until_linked(self, client: redis.Redis) -> None:
        """Wait until a replica follows its master."""
        self._until(lambda: client.info("replication").get("master_link_status") == "up")

    def until_equal(self) -> None:
        """Wait until the replica has everything."""
        # WAIT is about the writes of its own connection: without one it would answer at once.
        self.on_master.set("until equal", "", px=1)
        self._until(lambda: self.on_master.wait(1, 100) == 1)

    def _until(self, holds) -> None:
        deadline = time.monotonic() + PATIENCE
        while not holds():
            assert time.monotonic() < deadline
            time.sleep(0.02)

    def freeze(self) -> None:
        """Let the replica stand still, behind the master's back."""
        os.kill(self.replica.pid, signal.SIGSTOP)
        self.on_master.execute_command("CLIENT KILL TYPE replica")

    def go_on(self) -> None:
        """Let the replica run again."""
        os.kill(self.replica.pid, signal.SIGCONT)

    def promote(self) -> None:
        """Make the replica a master, with what it has."""
        # It must not get what it lacks first: the master is not to be found any more.
        self.on_master.config_set("requirepass", "somebody else's")
        self.go_on()
        self.on_replica.replicaof("NO", "ONE")
        self._until(lambda: self.on_replica.info("replication")["role"] == "master")
        self.on_master.config_set("requirepass", Location.parse(self.url).password)

    def demote(self) -> None:
        """Make the former master a replica of the new one, which throws away what only it had."""
        self.on_master.replicaof("127.0.0.1", self.replica.port)
        self.until_linked(self.on_master)
