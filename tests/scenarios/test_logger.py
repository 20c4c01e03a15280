"""The logger of contexts and bodies (feature 15)."""

from __future__ import annotations

import logging

import pytest

from perdure.config import Duration, StepConfig
from perdure.retries import RetryDecision


class Book:
    """A logger of one's own that keeps what it is told."""

    def __init__(self):
        self.records = []

    def _log(self, level, msg, args, extra):
        self.records.append((level, msg % args, dict(extra or {})))

    def debug(self, msg, *args, extra=None):
        self._log("debug", msg, args, extra)

    def info(self, msg, *args, extra=None):
        self._log("info", msg, args, extra)

    def warning(self, msg, *args, extra=None):
        self._log("warning", msg, args, extra)

    def error(self, msg, *args, extra=None):
        self._log("error", msg, args, extra)

    def exception(self, msg, *args, extra=None):
        self._log("exception", msg, args, extra)

    @property
    def messages(self):
        return [message for _, message, _ in self.records]


@pytest.fixture
def book():
    return Book()


def test_each_line_is_logged_once(stage, book):
    """During replay a context is silent; what is logged is logged by the invocation that got there first."""

    async def workflow(event, context):
        context.configure_logger(custom_logger=book)
        context.logger.info("begin %s", event)
        await context.step(stage.body("one"), name="one")
        context.logger.info("after one")
        await context.wait(Duration(1))
        context.logger.info("after the wait")
        await context.step(stage.body("two"), name="two")
        await context.wait(Duration(1))
        context.logger.warning("end")

    stage.run(workflow, "x")
    assert book.messages == ["begin x", "after one", "after the wait", "end"]
    assert [level for level, _, _ in book.records] == ["info", "info", "info", "warning"]


def test_without_regard_to_replay(stage, book):
    """With mode_aware=False every invocation logs."""

    async def workflow(event, context):
        context.configure_logger(custom_logger=book, mode_aware=False)
        context.logger.info("begin")
        await context.wait(Duration(1))
        context.logger.info("end")

    stage.run(workflow)
    assert book.messages == ["begin", "begin", "end"]


def test_set_logger(stage, book):
    """As in AWS's SDK, a logger is set on a context, for it and those below it."""

    async def workflow(event, context):
        async def child(child_context):
            child_context.logger.error("inside")

        context.set_logger(book)
        await context.run_in_child_context(child)

    stage.run(workflow)
    assert [record[:2] for record in book.records] == [("error", "inside")]


def test_records_tell_of_their_operation(stage, book):
    """The execution is named on every record, in a body the operation and its attempt too."""

    def flaky(step_context):
        step_context.logger.info("attempt", extra={"mine": 1})
        if step_context.attempt == 1:
            raise ValueError("again")

    async def workflow(event, context):
        context.configure_logger(custom_logger=book)
        context.logger.info("top")
        config = StepConfig(retry_strategy=lambda error, attempts: RetryDecision.retry(Duration(1)))

        async def child(child_context):
            child_context.logger.info("inside")
            await child_context.step(flaky, name="flaky", config=config)

        await context.run_in_child_context(child, name="child")

    outcome = stage.run(workflow)
    child = stage.operation(outcome.handle, "child").operation_id
    flaky_id = stage.operation(outcome.handle, "flaky").operation_id
    arn = outcome.handle.arn
    assert book.records == [
        ("info", "top", {"executionArn": arn}),
        ("info", "inside", {"executionArn": arn, "parentId": child}),
        *(
            (
                "info",
                "attempt",
                {
                    "executionArn": arn,
                    "parentId": child,
                    "operationName": "flaky",
                    "attempt": attempt,
                    "operationId": flaky_id,
                    "mine": 1,
                },
            )
            for attempt in (1, 2)
        ),
    ]


def test_the_standard_logger(stage, caplog):
    """By default records go to the standard library's logging, with their fields and the caller's place."""

    async def workflow(event, context):
        context.logger.warning("from %s", "the workflow")
        await context.step(lambda step_context: step_context.logger.error("from the body"), name="step")

    with caplog.at_level(logging.INFO):
        outcome = stage.run(workflow)
    ours = {record.getMessage(): record for record in caplog.records if hasattr(record, "executionArn")}
    assert set(ours) == {"from the workflow", "from the body"}
    assert ours["from the workflow"].executionArn == outcome.handle.arn
    assert ours["from the body"].operationName == "step"
    assert {record.filename for record in ours.values()} == {"test_logger.py"}


def test_branches_log_for_themselves(stage, book):
    """Whether a branch replays is its own matter: one that has a step left to do speaks, a finished one does not."""

    async def workflow(event, context):
        context.configure_logger(custom_logger=book)

        async def branch(branch_context, item, index, items):
            branch_context.logger.info("begin %s", item)
            if item == "waits":
                await branch_context.wait(Duration(5))
            branch_context.logger.info("end %s", item)

        await context.map(["runs", "waits"], branch, name="batch")
        context.logger.info("over")

    stage.run(workflow)
    assert sorted(book.messages) == ["begin runs", "begin waits", "end runs", "end waits", "over"]
