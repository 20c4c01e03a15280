"""What errors mean, and how a store comes through those that pass."""

import asyncio

import psycopg
import pytest
from psycopg import errors

from perdure.adapters.ephemeral import PostgresServer
from perdure.backends.postgres import PostgresStore
from perdure.backends.postgres.fault import LockedError, LostError, UnstorableError, translate, translate_connecting
from perdure.backends.postgres.location import Location
from perdure.backends.postgres.record import key_of
from perdure.backends.postgres.statement import qualify
from perdure.errors import BackendUrlError, SchemaVersionError, StoreError, StoreUnavailableError
from perdure.service.patience import patiently
from perdure.storage import Answer, Committed, Rejected, SignalKind, Tip
from perdure.testing.conformance.stage import Stage
from tests.unit.postgres.conftest import no_advance, until


@pytest.mark.parametrize(
    ("code", "kind", "retryable"),
    [
        ("22021", UnstorableError, False),
        ("22003", UnstorableError, False),
        ("23502", UnstorableError, False),
        ("54000", UnstorableError, False),
        ("40001", StoreUnavailableError, True),
        ("40P01", StoreUnavailableError, True),
        ("53100", StoreUnavailableError, True),
        ("53300", StoreUnavailableError, True),
        ("25006", StoreUnavailableError, True),
        ("25P03", StoreUnavailableError, True),
        ("55P03", LockedError, True),
        ("57014", StoreUnavailableError, True),
        ("57P01", LostError, True),
        ("57P03", LostError, True),
        ("08006", LostError, True),
        ("58030", StoreUnavailableError, True),
        ("42P01", SchemaVersionError, False),
        ("42501", StoreError, False),
        ("42601", StoreError, False),
        ("XX001", StoreError, False),
    ],
)
def test_codes(code, kind, retryable):
    """Every class of errors of the server has one meaning."""
    try:
        error = errors.lookup(code)("words of the server")
    except KeyError:
        error = psycopg.OperationalError("words of the server")
    found = translate(error, "place")
    assert type(found) is kind
    assert found.retryable is retryable
    assert "words of the server" in str(found) or kind is LockedError
    assert "place" in str(found)


@pytest.mark.parametrize(
    ("text", "kind"),
    [
        ('FATAL:  password authentication failed for user "ann"', StoreError),
        ("FATAL:  no pg_hba.conf entry for host", StoreError),
        ('FATAL:  database "nowhere" does not exist', BackendUrlError),
        ('FATAL:  role "nobody" does not exist', BackendUrlError),
        ('could not translate host name "nowhere" to address: Name or service not known', BackendUrlError),
        (
            "Connection refused\nIs the server running on that host and accepting TCP/IP connections?",
            StoreUnavailableError,
        ),
        ("FATAL:  sorry, too many clients already", StoreUnavailableError),
        ("FATAL:  the database system is starting up", StoreUnavailableError),
        ('connection to server on socket "/x/.s.PGSQL.5432" failed: No such file or directory', StoreUnavailableError),
    ],
)
def test_words_of_a_refusal(text, kind):
    """A connection that is not made tells whether it may be later."""
    found = translate_connecting(psycopg.OperationalError(text), "place")
    assert type(found) is kind
    assert found.retryable is (kind is StoreUnavailableError)


def test_data_that_cannot_be_kept(play):
    """An offender is rejected, also with others around it, and nothing of its batch is written."""

    async def scene(stage):
        holdings = [await stage.held() for _ in range(3)]
        batch = [holding.next() for holding in holdings]
        bad = holdings[1].next(draft=type(batch[1].draft)(b"x", "nul \0", 1))
        answers = await stage.store.commit([batch[0], bad, batch[2]])
        assert all(isinstance(answer, Rejected) for answer in answers)
        assert [(await stage.header(holding.id)).length for holding in holdings] == [1, 1, 1]
        (answer,) = await stage.store.commit([bad])
        assert isinstance(answer, Rejected)
        for surrogate in ("\ud800", "x\0"):
            with pytest.raises(UnstorableError):
                await stage.create(name=surrogate)
        created = await asyncio.gather(
            stage.create(), stage.create(name="bad \0"), stage.create(), return_exceptions=True
        )
        assert [isinstance(answer, UnstorableError) for answer in created] == [False, True, False]

    play(scene)


def test_ended_sessions(play, database):
    """When the server ends all sessions, the next verbs are answered, each written once."""

    async def scene(stage):
        holding = await stage.held()
        schema = stage.store.location.schema
        for _ in range(3):
            end = "select count(pg_terminate_backend(pid)) from pg_stat_activity where application_name = %s"
            ((ended,),) = await asyncio.to_thread(database, end, schema)
            assert ended >= 1
            await holding.write()
            await asyncio.gather(*(stage.create() for _ in range(5)))
        assert len(await stage.rows(holding.id)) == 4

    play(scene)


def test_locked_by_somebody(play, postgres_url):
    """A commit that finds its execution locked is answered BUSY, in a batch at once and alone after a while."""

    async def scene(stage):
        location = Location.parse(postgres_url)
        locked, free = await stage.held(), await stage.held()
        with psycopg.connect(**location.parameters) as other:
            other.execute(
                qualify("select from perdure.execution where id = %s for update", location.schema), [locked.id]
            )
            first, second = await stage.store.commit([locked.next(), free.next()])
            assert (first, isinstance(second, Committed)) == (Answer.BUSY, True)
            assert await locked.send(locked.next()) is Answer.BUSY
            with pytest.raises(LockedError):
                await stage.signal(locked.id, SignalKind.STOP)
        await locked.write()

    play(scene)


def test_creations_of_a_name_that_is_being_made(play, postgres_url):
    """A name that a long transaction is about to take holds up nobody else."""

    async def scene(stage):
        location = Location.parse(postgres_url)
        with psycopg.connect(**location.parameters) as other:
            key = key_of(location.schema, "name", "order", "taken")
            other.execute("select pg_advisory_xact_lock(%s)", [key])
            waiting = asyncio.create_task(stage.create(name="taken"))
            created = await asyncio.gather(*(stage.create() for _ in range(5)))
            assert len(created) == 5
            with pytest.raises(LockedError):
                await waiting
        assert (await stage.create(name="taken")).name == "taken"

    play(scene)


class Writer:
    """Writes one row after another, patiently."""

    def __init__(self, store, holding):
        self.store = store
        self.holding = holding
        self.count = 0

    async def write_until(self, stop):
        while not stop.is_set():
            commit = self.holding.next(str(self.count).encode())
            (answer,) = await patiently(lambda commit=commit: self.store.commit([commit]))
            assert isinstance(answer, Committed), answer
            self.holding.seq, self.holding.seen = commit.seq, answer.length
            self.holding.tip = Tip(answer.at, commit.draft.tag)
            self.count += 1

    @property
    def bodies(self):
        return [b"started", *(str(number).encode() for number in range(self.count))]


def test_killed_server():
    """A server that is killed and comes again loses and doubles nothing, and nobody need be started anew."""

    async def scene(server):
        async with Stage(lambda: PostgresStore(server.url), no_advance) as stage:
            writers = [Writer(stage.store, await stage.held()) for _ in range(8)]
            stop = asyncio.Event()
            tasks = [asyncio.create_task(writer.write_until(stop)) for writer in writers]
            for _ in range(3):
                await asyncio.to_thread(server.kill)
                await asyncio.to_thread(server.start)
                former = [writer.count for writer in writers]
                await until(lambda former=former: all(map(int.__lt__, former, (writer.count for writer in writers))))
            stop.set()
            await asyncio.gather(*tasks)
            for writer in writers:
                assert await stage.bodies(writer.holding.id) == writer.bodies

    with PostgresServer() as server:
        asyncio.run(scene(server))
