"""The PostgreSQL store keeps every rule of the SPI."""

from __future__ import annotations

import asyncio

import psycopg
import pytest

from perdure.backends.postgres import PostgresStore, migrate
from perdure.backends.postgres.statement import qualify
from perdure.testing.clock import EPOCH
from perdure.testing.conformance import *  # noqa: F403
from perdure.testing.conformance import Subject

CLOCK = """
create table perdure.test_clock (now bigint);
insert into perdure.test_clock values (0);
create or replace function perdure.clock() returns bigint language sql volatile
return (select now from perdure.test_clock);
"""
TABLES = ("execution", "journal", "await", "inbox", "signal", "lease", "function")
EMPTY = "".join(f"delete from perdure.{table};" for table in TABLES)
ADVANCE = "update perdure.test_clock set now = now + %s"
SET = "update perdure.test_clock set now = %s"


class Clock:
    """One schema, whose clock is a row of a table; every subject finds it empty."""

    def __init__(self, url, admin):
        self.url = url
        self._admin = admin
        self._schema = PostgresStore(url).location.schema
        self._run(CLOCK)

    def _run(self, script, *values):
        self._admin.execute(qualify(script, self._schema), values or None)

    def begin(self):
        self._run(EMPTY)
        self._run(SET, EPOCH)

    def advance(self, span):
        self._run(ADVANCE, span)


@pytest.fixture(scope="module", params=["", "pooler=transaction"], ids=["direct", "pooled"])
def kit(request, postgres_server):
    """A schema for all tests of this process, in each of the store's ways to work."""
    with postgres_server.schema() as url:
        asyncio.run(migrate(url))
        with psycopg.connect(postgres_server.server.url, autocommit=True) as admin:
            yield Clock(f"{url}&{request.param}" if request.param else url, admin)


@pytest.fixture
def new_subject(kit):
    def make():
        kit.begin()
        return Subject(open=lambda: PostgresStore(kit.url), advance=kit.advance)

    return make
