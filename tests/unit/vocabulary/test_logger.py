"""The logger of a context."""

from __future__ import annotations

import logging
from pathlib import Path

import pytest

from perdure.logger import Logger, LogInfo, complain

ARN = "arn:perdure:lambda:local:000000000000:function:order:$LATEST/durable-execution/o-17/5f0c"
LEVELS = ["debug", "info", "warning", "error", "exception"]


class Custom:
    """A logger that is none of `logging`'s and takes nothing but what the protocol has."""

    def __init__(self):
        self.calls = []

    def _take(self, msg, *args, extra=None):
        self.calls.append((msg % args, extra))

    debug = info = warning = error = exception = _take


@pytest.fixture
def target(caplog):
    """A logger of `logging` that takes all levels."""
    caplog.set_level(logging.DEBUG, "perdure.test")
    return logging.getLogger("perdure.test")


@pytest.mark.parametrize("level", LEVELS)
def test_records_tell_where_they_are_from(target, caplog, level):
    """Every level goes to the target with what is known of the place."""
    info = LogInfo(ARN, parent_id="p", operation_id="o", name="pay", attempt=2)
    getattr(Logger.from_log_info(target, info), level)("paid %d", 7)
    (record,) = caplog.records
    assert record.getMessage() == "paid 7"
    assert record.levelname == ("ERROR" if level == "exception" else level.upper())
    told = (record.executionArn, record.parentId, record.operationId, record.operationName, record.attempt)
    assert told == (ARN, "p", "o", "pay", 2)


@pytest.mark.parametrize("level", LEVELS)
def test_records_name_the_line_of_the_caller(target, caplog, level):
    """File and function are the workflow's, not the logger's."""
    getattr(Logger(target, {}), level)("here")
    (record,) = caplog.records
    assert (Path(record.pathname), record.funcName) == (Path(__file__), "test_records_name_the_line_of_the_caller")


def test_what_is_not_known_is_left_out():
    """Only the execution is always known."""
    assert LogInfo(ARN).extra() == {"executionArn": ARN}
    assert LogInfo(ARN, attempt=0).with_parent_id("p").extra() == {"executionArn": ARN, "parentId": "p", "attempt": 0}


def test_an_exception_is_logged_with_its_traceback(target, caplog):
    """`exception` tells of the error being handled."""
    try:
        int("boom")
    except ValueError:
        Logger(target, {}).exception("failed")
    assert "ValueError: invalid literal" in caplog.text


def test_a_calls_own_fields_win():
    """`extra` is added to the fields of the place, and replaces one of the same name."""
    custom = Custom()
    Logger(custom, {"executionArn": ARN, "attempt": 1}).info("m", extra={"attempt": 9, "card": "x"})
    assert custom.calls == [("m", {"executionArn": ARN, "attempt": 9, "card": "x"})]


def test_nothing_is_logged_while_replaying():
    """The status is asked for at every call, so it may change in between."""
    custom = Custom()
    replaying = True
    logger = Logger(custom, {}, lambda: replaying)
    for level in LEVELS:
        getattr(logger, level)("silent")
    replaying = False
    logger.info("spoken")
    assert [message for message, _ in custom.calls] == ["spoken"]


def test_replay_status_is_the_contexts_own():
    """A logger handed down to another context follows that one's status and keeps target and fields."""
    custom = Custom()
    parent = Logger(custom, {"a": 1}, lambda: True)
    parent.with_is_replaying(lambda: False).info("child")
    parent.info("parent")
    assert custom.calls == [("child", {"a": 1})]


def test_an_operations_logger_follows_its_context():
    """With another place the status stays, and so does the treatment of it."""
    custom = Custom()
    Logger(custom, {}, lambda: True).with_info(LogInfo(ARN)).info("silent")
    Logger(custom, {}, lambda: True, mode_aware=False).with_info(LogInfo(ARN)).info("spoken")
    assert custom.calls == [("spoken", {"executionArn": ARN})]


def test_a_logger_may_be_made_to_speak_during_replay():
    """`mode_aware=False` logs always, in what is derived from it too; None leaves it so."""
    custom = Custom()
    logger = Logger(custom, {}, lambda: True).configured(mode_aware=False)
    logger.info("one")
    logger.with_is_replaying(lambda: True).info("two")
    logger.configured().info("three")
    logger.configured(mode_aware=True).info("silent")
    assert [message for message, _ in custom.calls] == ["one", "two", "three"]


def test_a_custom_logger_takes_over():
    """Any object with the five methods is a target, and the fields stay."""
    first, second = Custom(), Custom()
    logger = Logger(first, {"a": 1}).configured(second)
    logger.warning("m %s", "x")
    assert logger.get_logger() is second
    assert (first.calls, second.calls) == ([], [("m x", {"a": 1})])


class Strict(logging.Handler):
    """Lets through what goes wrong, as that of AWS Lambda's runtime does."""

    def __init__(self):
        super().__init__()
        self.lines = []

    def emit(self, record):
        self.lines.append(self.format(record))


def test_a_warning_that_cannot_be_shown_harms_nobody():
    """What it is about is left out; the workflow it is about goes on."""

    class MuteError(Exception):
        def __repr__(self):
            raise RuntimeError("no text")

    strict, target = Strict(), logging.getLogger("perdure.test.strict")
    target.addHandler(strict)
    complain(target, "failed: %r", ValueError("x"))
    complain(target, "failed: %r", MuteError())
    assert strict.lines == ["failed: ValueError('x')", "a warning could not be logged (RuntimeError): failed: %r"]


def test_a_log_that_takes_nothing_harms_nobody():
    """Not even the second try gets through."""
    broken, target = Strict(), logging.getLogger("perdure.test.broken")
    del broken.lines
    target.addHandler(broken)
    complain(target, "failed")


def test_warnings_name_the_line_that_complains(target, caplog):
    """And have the fields that are given."""
    complain(target, "failed", extra={"executionArn": ARN})
    (record,) = caplog.records
    assert (Path(record.pathname), record.executionArn) == (Path(__file__), ARN)
