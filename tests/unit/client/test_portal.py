"""Bridges between threads and loops: order, wake-ups, errors, variables."""

from __future__ import annotations

import asyncio
import threading
from contextvars import ContextVar

import pytest

from perdure.portal import Mailbox, Portal, Reply, mailbox

COLOUR: ContextVar[str] = ContextVar("colour", default="none")


@pytest.fixture
def portal():
    """A portal of its own, whose loop ends with the test."""
    made = Portal("test-portal")
    yield made
    made.loop.call_soon_threadsafe(made.loop.stop)
    made._thread.join(5)
    made.loop.close()


class CountedLoop(asyncio.SelectorEventLoop):
    """Counts what wakes it."""

    wakes = 0

    def call_soon_threadsafe(self, *args, **options):
        self.wakes += 1
        return super().call_soon_threadsafe(*args, **options)


def test_calls_that_gather_while_a_loop_is_busy_cost_one_wake_up():
    """A thousand calls from four threads, in order for each thread."""
    loop = CountedLoop()
    heard = []
    box = Mailbox(loop)

    def talk(number):
        for each in range(250):
            box.put(heard.append, (number, each))

    threads = [threading.Thread(target=talk, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    loop.call_soon(loop.stop)
    loop.run_forever()
    loop.close()
    assert loop.wakes == 1
    assert all([each for who, each in heard if who == number] == list(range(250)) for number in range(4))


def test_no_call_is_lost_between_two_wake_ups(portal):
    """Four threads and the loop race; each waits for an answer before it asks again."""
    box_made = threading.Event()

    def ask(count):
        box_made.wait()
        for each in range(count):
            reply = Reply()
            portal.post(reply.set_result, each)
            assert reply.wait() == each
        done.append(count)

    done = []
    threads = [threading.Thread(target=ask, args=(500,)) for _ in range(4)]
    for thread in threads:
        thread.start()
    box_made.set()
    for thread in threads:
        thread.join(20)
    assert done == [500] * 4


def test_what_callbacks_of_one_round_put_goes_together():
    """A loop that talks to another one wakes it once per round, after all that is ready has had its turn."""
    loop = CountedLoop()
    heard = []
    box = Mailbox(loop)

    async def talk():
        async with asyncio.TaskGroup() as group:
            for each in range(50):
                group.create_task(one(each))

    async def one(number):
        box.put_with_others(heard.append, number)
        assert not loop.wakes

    asyncio.run(talk())
    loop.call_soon(loop.stop)
    loop.run_forever()
    loop.close()
    assert (loop.wakes, heard) == (1, list(range(50)))


def test_a_blocking_call_does_not_wait_for_its_own_loop_to_go_on(portal):
    """What another task of that loop has put in the same round goes with it."""

    async def talk():
        asking = asyncio.create_task(portal.ask(asyncio.sleep(0, "asked")))
        await asyncio.sleep(0)
        assert portal.call(asyncio.sleep(0, "called")) == "called"
        assert await asking == "asked"

    asyncio.run(talk())


def test_a_call_that_raises_holds_up_nobody(portal):
    """Against its promise: the loop is told, and those put behind it are called all the same."""
    reply, told = Reply(), []
    portal.loop.set_exception_handler(lambda _, context: told.append(context["exception"]))

    def put():
        portal.post(int, "no number")
        portal.post(reply.set_result, 1)

    portal.loop.call_soon_threadsafe(put)
    assert reply.wait(10) == 1
    assert [type(error) for error in told] == [ValueError]


def test_a_loop_that_was_closed_is_told_nothing():
    """Whoever waited there is gone; nothing raises."""
    loop = asyncio.new_event_loop()
    box = Mailbox(loop)
    loop.close()
    box.put(pytest.fail, "called")


def test_each_loop_has_one_mailbox():
    """Found again as long as the loop lives."""

    async def find():
        return mailbox() is mailbox()

    assert asyncio.run(find())


def test_what_is_called_sees_the_variables_of_its_caller(portal):
    """As a plain call would; what it sets itself stays with it."""

    async def look():
        seen = COLOUR.get()
        COLOUR.set("changed there")
        return seen

    COLOUR.set("red")
    assert portal.call(look()) == "red"
    assert COLOUR.get() == "red"

    async def ask():
        COLOUR.set("blue")
        return await portal.ask(look()), await portal.ask(look())

    assert asyncio.run(ask()) == ("blue", "blue")


def test_an_error_reaches_who_asked(portal):
    """Thread or loop."""

    async def fail():
        raise LookupError("nothing here")

    with pytest.raises(LookupError, match="nothing here"):
        portal.call(fail())

    async def ask():
        with pytest.raises(LookupError, match="nothing here"):
            await portal.ask(fail())

    asyncio.run(ask())


def test_who_stops_asking_cancels_what_was_asked(portal):
    """A cancelled task waits for nothing on the other loop."""
    began, over = threading.Event(), threading.Event()

    async def forever():
        began.set()
        try:
            await asyncio.Event().wait()
        finally:
            over.set()

    async def ask():
        asking = asyncio.create_task(portal.ask(forever()))
        await asyncio.to_thread(began.wait, 5)
        asking.cancel()
        with pytest.raises(asyncio.CancelledError):
            await asking

    asyncio.run(ask())
    assert over.wait(5)
