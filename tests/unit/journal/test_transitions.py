"""Validation: the rules and messages of protocol.md §8."""

from __future__ import annotations

import pytest

from perdure.errors import InvalidParameterValueError, StaleTokenError
from perdure.journal.transitions import validate
from perdure.model import ChainedInvokeOptions, ErrorObject, OperationType

BOOM = ErrorObject("boom", "ValueError")
MIB = 1_048_576


def refusal(journal, *updates, **options):
    """The message of the refusal."""
    with pytest.raises(InvalidParameterValueError) as caught:
        validate(journal.execution, updates, **options)
    return str(caught.value)


@pytest.fixture
def busy(journal, update):
    """A journal with an operation of every type in every state it has."""
    journal.update(
        update("STEP", "START", "step-started", name="n", sub_type="Step"),
        update("STEP", "RETRY", "step-pending", error=BOOM, delay=60),
        update("STEP", "RETRY", "step-ready", error=BOOM, delay=1),
        update("STEP", "SUCCEED", "step-ended"),
        update("CONTEXT", "START", "context-started"),
        update("CONTEXT", "SUCCEED", "context-ended"),
        update("WAIT", "START", "wait-started", wait=60),
        update("WAIT", "START", "wait-ended", wait=1),
        update("CALLBACK", "START", "callback-started"),
        update("CHAINED_INVOKE", "START", "invoke-started", function="f"),
        update("STEP", "START", "child", parent_id="context-started"),
    )
    journal.fire("step-ready", "wait-ended", after=1)
    return journal


class TestBatch:
    def test_one_execution_update(self, journal, update):
        """A second one is refused."""
        updates = update("EXECUTION", "SUCCEED", "r"), update("EXECUTION", "SUCCEED", "r2")
        assert refusal(journal, *updates) == "Cannot checkpoint multiple EXECUTION updates."

    def test_an_execution_update_is_the_last(self, journal, update):
        """Nothing may follow it in its request."""
        updates = update("EXECUTION", "SUCCEED", "r"), update("STEP", "START", "s")
        assert refusal(journal, *updates) == "EXECUTION checkpoint must be the last update."

    def test_nothing_follows_a_recorded_outcome(self, journal, update):
        """Nor may anything follow it in a later request."""
        journal.update(update("EXECUTION", "SUCCEED", "r"))
        assert refusal(journal, update("STEP", "START", "s")) == "EXECUTION checkpoint must be the last update."
        assert refusal(journal, update("EXECUTION", "SUCCEED", "r")) == "Cannot checkpoint multiple EXECUTION updates."
        validate(journal.execution, [])

    @pytest.mark.parametrize(
        "pairs",
        [
            [("STEP", "START"), ("STEP", "START")],
            [("STEP", "SUCCEED"), ("STEP", "START")],
            [("STEP", "START"), ("STEP", "SUCCEED"), ("STEP", "FAIL")],
            [("WAIT", "START"), ("WAIT", "CANCEL")],
            [("CALLBACK", "START"), ("CALLBACK", "START")],
        ],
    )
    def test_an_id_occurs_once(self, journal, update, pairs):
        """Only START and one other action of a step or context may share it."""
        updates = [update(kind, action, "s", wait=1) for kind, action in pairs]
        assert refusal(journal, *updates) == "Cannot checkpoint multiple operations with the same ID."

    @pytest.mark.parametrize(("kind", "action"), [("STEP", "SUCCEED"), ("STEP", "FAIL"), ("CONTEXT", "SUCCEED")])
    def test_start_and_close_may_come_together(self, journal, update, kind, action):
        """The exception: the usual trace of a short step."""
        validate(journal.execution, [update(kind, "START", "s"), update(kind, action, "s")])

    def test_a_parent_is_a_context(self, busy, update):
        """It exists, or comes earlier in the request."""
        child = update("STEP", "START", "s", parent_id="c")
        assert refusal(busy, child) == "Invalid parent operation id."
        assert refusal(busy, child, update("CONTEXT", "START", "c")) == "Invalid parent operation id."
        for parent in ("step-started", busy.execution.id):
            assert refusal(busy, update("STEP", "START", "s", parent_id=parent)) == "Invalid parent operation id."
        validate(busy.execution, [update("CONTEXT", "START", "c"), child])
        validate(busy.execution, [update("STEP", "START", "s", parent_id="context-ended")])

    def test_an_ended_execution_takes_nothing(self, journal, update):
        """Not even an empty request: the token is stale."""
        journal.end()
        with pytest.raises(StaleTokenError, match=r"^Invalid checkpoint token$"):
            validate(journal.execution, [])

    def test_the_state_is_not_changed(self, busy, update):
        """Validation only looks."""
        before = dict(busy.execution.operations)
        validate(busy.execution, [update("STEP", "SUCCEED", "step-started"), update("CONTEXT", "START", "new")])
        assert busy.execution.operations == before


class TestIdentity:
    @pytest.mark.parametrize(
        ("kind", "change", "message"),
        [
            ("CONTEXT", {}, "Inconsistent operation type."),
            ("STEP", {"sub_type": "Other"}, "Inconsistent operation subtype."),
            ("STEP", {"name": "other"}, "Inconsistent operation name."),
            ("STEP", {"parent_id": "context-started"}, "Inconsistent parent operation id."),
        ],
    )
    def test_it_stays_what_it_was(self, busy, update, kind, change, message):
        """What is sent equals what was recorded."""
        assert refusal(busy, update(kind, "SUCCEED", "step-started", **change)) == message

    def test_it_holds_within_a_request(self, journal, update):
        """The second update of an id is compared with the first."""
        updates = update("STEP", "START", "s", name="a"), update("STEP", "SUCCEED", "s", name="b")
        assert refusal(journal, *updates) == "Inconsistent operation name."

    def test_what_is_not_sent_is_not_compared(self, busy, update):
        """Identity may be left out."""
        validate(busy.execution, [update("STEP", "SUCCEED", "step-started"), update("STEP", "SUCCEED", "child")])


LEGAL = {
    "STEP": {"START", "SUCCEED", "FAIL", "RETRY"},
    "CONTEXT": {"START", "SUCCEED", "FAIL"},
    "WAIT": {"START", "CANCEL"},
    "CALLBACK": {"START"},
    "CHAINED_INVOKE": {"START"},
    "EXECUTION": {"SUCCEED", "FAIL"},
}


@pytest.mark.parametrize("kind", [kind.value for kind in OperationType])
@pytest.mark.parametrize("action", ["START", "SUCCEED", "FAIL", "RETRY", "CANCEL"])
def test_actions_fit_their_type(journal, update, kind, action):
    """§8's list of actions by type."""
    one = update(kind, action, "new", delay=1, wait=1, function="f")
    if action in LEGAL[kind] and (kind, action) != ("WAIT", "CANCEL"):
        validate(journal.execution, [one])
    elif action not in LEGAL[kind]:
        assert refusal(journal, one) == "Invalid action for the given operation type."


CLOSE_STEP = "Invalid current STEP state to close."
CLOSE_CONTEXT = "Invalid current CONTEXT state to close."
CANCEL_WAIT = "Cannot cancel a WAIT that does not exist or has already completed."


@pytest.mark.parametrize(
    ("kind", "action", "id", "message"),
    [
        ("STEP", "START", "step-ready", None),
        ("STEP", "START", "step-started", "Invalid current STEP state to start."),
        ("STEP", "START", "step-pending", "Invalid current STEP state to start."),
        ("STEP", "START", "step-ended", "Invalid current STEP state to start."),
        ("STEP", "SUCCEED", "step-started", None),
        ("STEP", "SUCCEED", "step-ready", None),
        ("STEP", "SUCCEED", "step-pending", CLOSE_STEP),
        ("STEP", "FAIL", "step-ended", CLOSE_STEP),
        ("STEP", "RETRY", "step-started", None),
        ("STEP", "RETRY", "step-ready", None),
        ("STEP", "RETRY", "step-pending", "Invalid current STEP state to re-attempt."),
        ("STEP", "RETRY", "step-ended", "Invalid current STEP state to re-attempt."),
        ("CONTEXT", "START", "context-started", "Cannot start a CONTEXT that already exist."),
        ("CONTEXT", "SUCCEED", "context-started", None),
        ("CONTEXT", "FAIL", "context-ended", CLOSE_CONTEXT),
        ("WAIT", "START", "wait-started", "Cannot start a WAIT that already exist."),
        ("WAIT", "CANCEL", "wait-started", None),
        ("WAIT", "CANCEL", "wait-ended", CANCEL_WAIT),
        ("WAIT", "CANCEL", "never-seen", CANCEL_WAIT),
        ("CALLBACK", "START", "callback-started", "Cannot start a CALLBACK that already exist."),
        (
            "CHAINED_INVOKE",
            "START",
            "invoke-started",
            "Cannot start a CHAINED_INVOKE operation that already exists.",
        ),
    ],
)
def test_transitions(busy, update, kind, action, id, message):
    """§8's table of transitions; what is accepted also takes effect."""
    one = update(kind, action, id, delay=1, wait=1, function="f")
    if message is not None:
        assert refusal(busy, one) == message
        return
    validate(busy.execution, [one])
    busy.update(one)
    assert busy.changed == {id}


@pytest.mark.parametrize(
    ("kind", "action", "members", "message"),
    [
        ("STEP", "RETRY", {}, "Invalid StepOptions for the given action."),
        ("WAIT", "START", {}, "Invalid WaitOptions for the given action."),
        ("CHAINED_INVOKE", "START", {}, "Update for CHAINED_INVOKE operation requires ChainedInvokeOptions."),
        (
            "STEP",
            "RETRY",
            {"delay": 1, "error": BOOM, "payload": "1"},
            "Cannot provide both error and payload to RETRY a STEP.",
        ),
        ("STEP", "FAIL", {"payload": "1"}, "Cannot provide a Payload for FAIL action."),
        ("CONTEXT", "FAIL", {"payload": "1"}, "Cannot provide a Payload for FAIL action."),
        ("EXECUTION", "FAIL", {"payload": "1"}, "Cannot provide a Payload for FAIL action."),
        ("STEP", "SUCCEED", {"error": BOOM}, "Cannot provide an Error for SUCCEED action."),
        ("EXECUTION", "SUCCEED", {"error": BOOM}, "Cannot provide an Error for SUCCEED action."),
        ("STEP", "RETRY", {"delay": 0}, "NextAttemptDelaySeconds must be between 1 and 31622400, not 0."),
        ("WAIT", "START", {"wait": 31_622_401}, "WaitSeconds must be between 1 and 31622400, not 31622401."),
        ("CALLBACK", "START", {"timeouts": (-1, 0)}, "TimeoutSeconds must be between 0 and 99999999, not -1."),
        (
            "CALLBACK",
            "START",
            {"timeouts": (0, 10**8)},
            "HeartbeatTimeoutSeconds must be between 0 and 99999999, not 100000000.",
        ),
        ("STEP", "START", {"name": "Müller"}, "Name must be 1 to 256 printable ASCII characters, not 'Müller'."),
        ("STEP", "START", {"name": ""}, "Name must be 1 to 256 printable ASCII characters, not ''."),
        (
            "STEP",
            "START",
            {"sub_type": "a b"},
            "SubType must be 1 to 32 characters matching [A-Za-z0-9_-]+, not 'a b'.",
        ),
        ("STEP", "START", {"parent_id": "a/b"}, "Invalid parent operation id."),
    ],
)
def test_one_update(journal, update, kind, action, members, message):
    """What an update must have, must not have, and how large and long its members may be."""
    assert refusal(journal, update(kind, action, "new", **members)) == message


def test_an_id_has_the_pattern_of_ids(journal, update):
    """1 to 64 of a small alphabet, and no line break behind them."""
    for id in ("", "a/b", "a" * 65, "a\n"):
        expected = f"Id must be 1 to 64 characters matching [A-Za-z0-9_-]+, not {id!r}."
        assert refusal(journal, update("STEP", "START", id)) == expected
    validate(journal.execution, [update("STEP", "START", "a" * 64)])


@pytest.mark.parametrize(
    ("tenant_id", "legal"), [("a-b.c_:/=+@ 1", True), ("", False), ("ä", False), ("a" * 257, False)]
)
def test_a_tenant_is_well_formed(journal, update, tenant_id, legal):
    """§2's pattern, refused with §8's message."""
    one = update("CHAINED_INVOKE", "START", "i", chained_invoke_options=ChainedInvokeOptions("f", tenant_id))
    if legal:
        validate(journal.execution, [one])
    else:
        message = "TenantId must be 1 to 256 characters matching [a-zA-Z0-9._:/=+-@ ]."
        assert refusal(journal, one) == message


class TestSizes:
    @pytest.mark.parametrize(
        ("kind", "action", "what"),
        [
            ("STEP", "SUCCEED", "STEP output"),
            ("CONTEXT", "SUCCEED", "CONTEXT output"),
            ("CHAINED_INVOKE", "START", "CHAINED_INVOKE input"),
        ],
    )
    @pytest.mark.parametrize("character", ["a", "ä", "€", "𝄞"])
    def test_a_payload_is_measured_in_utf8(self, journal, update, kind, action, what, character):
        """1 MiB of bytes, whatever the characters."""
        most = MIB // len(character.encode())
        validate(journal.execution, [update(kind, action, "s", payload=character * most, function="f")])
        message = f"{what} payload size must be less than or equal to {MIB} bytes."
        too_long = update(kind, action, "s", payload=character * (most + 1), function="f")
        assert refusal(journal, too_long) == message

    def test_the_limit_of_operations_can_be_set(self, journal, update):
        """A service may allow less."""
        one = update("STEP", "SUCCEED", "s", payload="a" * 11)
        expected = "STEP output payload size must be less than or equal to 10 bytes."
        assert refusal(journal, one, payload_limit=10) == expected

    def test_an_error_counts_as_a_whole(self, journal, update):
        """All fields of an error together have 1 MiB."""
        half = "a" * (MIB // 2)
        validate(journal.execution, [update("STEP", "FAIL", "s", error=ErrorObject(half, None, half))])
        one = update("STEP", "FAIL", "s", error=ErrorObject(half, None, half, ["a"]))
        assert refusal(journal, one) == f"Error object size must be less than {MIB} bytes."

    def test_a_childs_result_is_as_small_as_an_input(self, new_journal, update):
        """What another execution waits for fits into one of its operations; a free one's may be larger."""
        one = update("EXECUTION", "SUCCEED", "r", payload="a" * (MIB + 1))
        child = new_journal().begin(parent="p/op")
        expected = f"Execution output payload size must be less than or equal to {MIB} bytes."
        assert refusal(child, one) == expected
        free = new_journal().begin()
        validate(free.execution, [one])
        huge = update("EXECUTION", "SUCCEED", "r", payload="a" * (6 * MIB + 1))
        assert refusal(free, huge).startswith("Execution output payload size")
