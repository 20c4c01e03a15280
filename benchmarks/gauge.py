"""What a server says of itself: CPU time, and what it wrote. Nobody else may use it meanwhile."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol

from benchmarks.process import parent, tree_cpu_seconds

if TYPE_CHECKING:
    from collections.abc import Mapping


class Gauge(Protocol):
    """Counters that only grow."""

    def read(self) -> Mapping[str, float]:
        """All of them, by name."""


class NoGauge:
    """There is no server."""

    def read(self) -> Mapping[str, float]:
        """Nothing."""
        return {}


class PostgresGauge:
    """Transactions that wrote, bytes of WAL, and CPU time of all server processes if they run here."""

    def __init__(self, url: str) -> None:
        import psycopg  # noqa: PLC0415 - not every system has it

        self._connection = psycopg.connect(url, autocommit=True)
        row = self._connection.execute("SELECT pg_backend_pid()").fetchone()
        # Elsewhere that number is nobody, or a process that is not started by a postmaster.
        self._postmaster = parent(row[0]) if row else 0

    def read(self) -> Mapping[str, float]:
        """As `Gauge.read`."""
        row = self._connection.execute(
            "SELECT pg_snapshot_xmax(pg_current_snapshot())::text::bigint, (pg_current_wal_lsn() - '0/0')::bigint"
        ).fetchone()
        assert row is not None  # noqa: S101 - for the type checker
        return {"transactions": row[0], "wal_bytes": row[1], **_cpu(self._postmaster)}


class RedisGauge:
    """Commands, bytes in and out, and CPU time of the server if it runs here."""

    def __init__(self, url: str) -> None:
        import redis  # noqa: PLC0415 - not every system has it

        self._client: Any = redis.Redis.from_url(url)

    def read(self) -> Mapping[str, float]:
        """As `Gauge.read`."""
        info = self._client.info()
        counters = {
            "commands": info["total_commands_processed"],
            "bytes_in": info["total_net_input_bytes"],
            "bytes_out": info["total_net_output_bytes"],
        }
        return {**counters, "server_cpu_ms": (info["used_cpu_sys"] + info["used_cpu_user"]) * 1e3}


def gauge_of(url: str) -> Gauge:
    """What fits a URL's scheme."""
    scheme = url.partition("://")[0]
    if scheme in ("postgresql", "postgres"):
        return PostgresGauge(url)
    if scheme in ("redis", "rediss", "unix"):
        return RedisGauge(url.partition("?")[0])
    return NoGauge()


def _cpu(pid: int) -> Mapping[str, float]:
    return {"server_cpu_ms": tree_cpu_seconds(pid) * 1e3} if pid > 1 else {}
