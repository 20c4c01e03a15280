"""From values to payloads and back, and the clear refusal of what cannot be stored."""

from __future__ import annotations

import base64
import json
import zlib
from collections import OrderedDict
from datetime import UTC, date, datetime
from decimal import Decimal
from enum import Enum, IntFlag
from typing import NamedTuple
from uuid import UUID

import attrs
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from perdure.batch import BatchItem, BatchItemStatus, BatchResult, CompletionReason
from perdure.errors import InvocationError, PayloadTooLargeError, RetryableSerDesError, SerDesError
from perdure.model import ErrorObject
from perdure.serdes import (
    DEFAULT_JSON_SERDES,
    EXTENDED_TYPES_SERDES,
    PASS_THROUGH_SERDES,
    PAYLOAD_LIMIT_BYTES,
    ExtendedTypeSerDes,
    JsonSerDes,
    PassThroughSerDes,
    SerDes,
    SerDesContext,
    check_size,
    copy_of,
    deserialize,
    serialize,
)

ARN = "arn:perdure:lambda:local:000000000000:function:order:$LATEST/durable-execution/o-17/5f0c"

LEAVES = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False)
    | st.text(max_size=8)
    | st.binary(max_size=8)
    | st.uuids()
    | st.decimals(allow_nan=False)
    | st.datetimes(timezones=st.none() | st.just(UTC)).map(lambda moment: moment.replace(fold=0))
    | st.dates()
)
VALUES = st.recursive(
    LEAVES,
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.lists(inner, max_size=3).map(tuple)
        | st.dictionaries(st.text(max_size=3) | st.sampled_from("tv"), inner, max_size=3)
        | st.lists(st.builds(BatchItem, st.integers(0, 9), st.sampled_from(BatchItemStatus), inner), max_size=2).map(
            lambda items: BatchResult(items, CompletionReason.ALL_COMPLETED)
        )
    ),
    max_leaves=8,
)


class Point(NamedTuple):
    x: int
    y: int


@attrs.frozen
class Packed(SerDes):
    """A serdes around another one, as a user might write to compress (or encrypt) what is stored."""

    inner: SerDes = EXTENDED_TYPES_SERDES

    def serialize(self, value, serdes_context):
        text = self.inner.serialize(value, serdes_context)
        return base64.b64encode(zlib.compress(text.encode())).decode()

    def deserialize(self, data, serdes_context):
        return self.inner.deserialize(zlib.decompress(base64.b64decode(data)).decode(), serdes_context)


@attrs.frozen
class Offloaded(SerDes):
    """A serdes that stores values elsewhere, under a key per operation, and records the key."""

    shelf: dict = attrs.field(factory=dict)

    def serialize(self, value, serdes_context):
        key = f"{serdes_context.durable_execution_arn}#{serdes_context.operation_id}"
        self.shelf[key] = value
        return key

    def deserialize(self, data, serdes_context):
        return self.shelf[data]


def both_ways(serdes, value):
    """A value after its round trip."""
    return deserialize(serdes, serialize(serdes, value, "op", ARN), "op", ARN)


# -------------------------------------------------------------------------------------------------------- round trips


@given(VALUES)
@settings(max_examples=200, deadline=None, suppress_health_check=[HealthCheck.too_slow])
def test_the_default_keeps_values_and_their_types(value):
    """What replay reads is equal to what was returned, down to the types."""
    again = both_ways(None, value)
    assert again == value
    assert repr(again) == repr(value)


@given(VALUES)
@settings(max_examples=200, deadline=None, suppress_health_check=[HealthCheck.too_slow])
def test_a_copy_is_what_would_be_read(value):
    """Where a value is copied instead of read back, that makes no difference."""
    copied = copy_of(None, value)
    if copied is not None:
        again = both_ways(None, copied[0])
        assert repr(copied[0]) == repr(again)
        assert serialize(None, copied[0], "op", ARN) == serialize(None, value, "op", ARN)


def test_a_copy_shares_nothing_that_can_be_changed():
    """Who keeps what a body has returned cannot change the result."""
    value = {"a": [1, ({"b": None},)]}
    (copied,) = copy_of(None, value) or ()
    assert copied == value
    value["a"][1][0]["b"] = 2
    value["a"].append(3)
    assert copied == {"a": [1, ({"b": None},)]}


@pytest.mark.parametrize(
    "value",
    [
        "\ud83d\ude00",
        {"\ud83d\ude00": 1},
        {1: "a"},
        float("nan"),
        OrderedDict(a=1),
        [Decimal(1)],
        BatchResult([BatchItem(0, BatchItemStatus.FAILED, None, ErrorObject("no"))], CompletionReason.ALL_COMPLETED),
        [[[[[[[[[[[[[[[[[[[[[[1]]]]]]]]]]]]]]]]]]]]]],
    ],
)
def test_what_may_be_read_otherwise_is_not_copied(value):
    """Values are copied only where nothing can be lost or changed by writing them."""
    assert copy_of(None, value) is None


def test_only_the_default_copies():
    """What a serializer of the user's makes of a value is asked of it."""
    assert copy_of(EXTENDED_TYPES_SERDES, 1) == (1,)
    assert copy_of(JsonSerDes(), 1) is None
    assert copy_of(Packed(), 1) is None


@pytest.mark.parametrize(
    ("value", "payload"),
    [
        (None, "null"),
        (True, "true"),
        (7, "7"),
        ([1, ["a", None]], '[1,["a",null]]'),
        ({}, '{"t":"m","v":{}}'),
        ({"n": 1}, '{"t":"m","v":{"n":{"t":"i","v":1}}}'),
        ((True,), '{"t":"t","v":[{"t":"b","v":true}]}'),
        (b"ab", '{"t":"B","v":"YWI="}'),
        (bytearray(b"ab"), '{"t":"B","v":"YWI="}'),
        (UUID(int=1), '{"t":"u","v":"00000000-0000-0000-0000-000000000001"}'),
        (Decimal("1.50"), '{"t":"d","v":"1.50"}'),
        (datetime(2024, 1, 2, tzinfo=UTC), '{"t":"dt","v":"2024-01-02T00:00:00+00:00"}'),
        (date(2024, 1, 2), '{"t":"D","v":"2024-01-02"}'),
    ],
)
def test_payloads_are_those_of_the_protocol(value, payload):
    """Plain JSON where it keeps the value, envelopes elsewhere, no space in either."""
    assert serialize(None, value, "op", ARN) == payload
    assert deserialize(None, payload, "op", ARN) == value


def test_a_batch_result_is_stored_with_its_errors():
    """Items, statuses, results, errors and the reason come back."""
    error = ErrorObject("no", "ValueError", None, ["line"])
    result = BatchResult(
        [
            BatchItem(0, BatchItemStatus.SUCCEEDED, (1, b"x")),
            BatchItem(1, BatchItemStatus.FAILED, error=error),
            BatchItem(2, BatchItemStatus.STARTED),
        ],
        CompletionReason.TIMED_OUT,
    )
    assert both_ways(None, result) == result


def test_not_a_number_stays_so():
    """NaN and the infinities are written as Python's JSON has them."""
    assert serialize(None, [float("nan"), float("inf")], "op", ARN) == "[NaN,Infinity]"
    assert repr(both_ways(None, {"a": float("nan")})) == "{'a': nan}"


def test_keys_become_texts():
    """Dict keys come back as the texts that JSON has them as."""
    assert both_ways(None, {7: "a", None: "b", True: "c", 2.5: "d"}) == {"7": "a", "null": "b", "true": "c", "2.5": "d"}


def test_an_instance_of_a_subclass_becomes_one_of_the_class():
    """A named tuple comes back as a tuple, an integer's enum as an integer, a dict's subclass as a dict."""
    again = both_ways(None, OrderedDict(point=Point(1, 2), level=IntFlag("Level", "LOW HIGH").HIGH))
    assert again == {"point": (1, 2), "level": 2}
    assert (type(again), type(again["point"]), type(again["level"])) == (dict, tuple, int)


def test_an_envelope_of_the_users_own_is_data():
    """A dict that looks like an envelope is not opened as one."""
    assert both_ways(None, {"t": "i", "v": "5"}) == {"t": "i", "v": "5"}


def test_json_keeps_what_json_has():
    """A tuple becomes a list, and the text has Python's usual spaces."""
    assert serialize(JsonSerDes(), {"a": (1, 2)}, "op", ARN) == '{"a": [1, 2]}'
    assert both_ways(DEFAULT_JSON_SERDES, {"a": (1, 2)}) == {"a": [1, 2]}


def test_texts_pass_through():
    """The pass-through serdes leaves texts alone."""
    assert both_ways(PASS_THROUGH_SERDES, "{not json") == "{not json"
    assert PassThroughSerDes().serialize("x", SerDesContext()) == "x"


@given(VALUES)
@settings(max_examples=50, deadline=None, suppress_health_check=[HealthCheck.too_slow])
def test_a_serdes_may_wrap_another(value):
    """Compression or encryption is a serdes around the default one."""
    assert both_ways(Packed(), value) == value


def test_a_wrapper_makes_large_payloads_small():
    """What would be too large passes the limit once compressed."""
    value = {"text": "x" * PAYLOAD_LIMIT_BYTES}
    with pytest.raises(PayloadTooLargeError):
        check_size(serialize(None, value, "op", ARN), "result")
    packed = check_size(serialize(Packed(), value, "op", ARN), "result")
    assert deserialize(Packed(), packed, "op", ARN) == value


def test_a_serdes_may_store_values_elsewhere():
    """It is told the operation and the execution, which make a key; the payload is a reference."""
    serdes = Offloaded()
    value = object()
    assert both_ways(serdes, value) is value
    assert list(serdes.shelf) == [f"{ARN}#op"]


def test_a_serdes_may_be_called_without_a_context():
    """The default one needs none, as in AWS's SDK."""
    assert ExtendedTypeSerDes().deserialize(ExtendedTypeSerDes().serialize((1, 2))) == (1, 2)


# ------------------------------------------------------------------------------------------------------------ refusal


class Colour(Enum):
    RED = 1


CIRCLE: dict = {"a": [0, {}]}
CIRCLE["a"][1]["back"] = CIRCLE["a"]

REFUSED = [
    ({1}, "value is a set; convert it to a supported type, or pass a serdes that takes it"),
    ({"a": [0, 1, 2, {3}]}, "value['a'][3] is a set; "),
    ({"a": ({"b": Colour.RED},)}, "value['a'][0]['b'] is a Colour; "),
    ([object()], "value[0] is an object; "),
    ([len], "value[0] is a builtin_function_or_method; "),
    ({"a": {(1, 2): 3}}, "value['a'] has the key (1, 2), a tuple; use texts or numbers as keys"),
    ({b"k": 3}, "value has the key b'k', a bytes; use texts or numbers as keys"),
    (CIRCLE, "value['a'][1]['back'] is circular, being value['a'] again; store what it refers to by a key instead"),
]


@pytest.mark.parametrize("serdes", [None, DEFAULT_JSON_SERDES])
@pytest.mark.parametrize(("value", "words"), REFUSED)
def test_a_refusal_names_the_place(serdes, value, words):
    """What cannot be stored is named by its path in the value, with a remedy."""
    with pytest.raises(SerDesError) as caught:
        serialize(serdes, value, "op", ARN)
    assert str(caught.value).startswith(words)


def test_a_refusal_looks_into_batch_results():
    """The item whose result cannot be stored is named."""
    items = [BatchItem(0, BatchItemStatus.SUCCEEDED, 1), BatchItem(1, BatchItemStatus.SUCCEEDED, [{2}])]
    with pytest.raises(SerDesError, match=r"^value\['r'\]\.all\[1\]\.result\[0\] is a set; "):
        serialize(None, {"r": BatchResult(items, CompletionReason.ALL_COMPLETED)}, "op", ARN)


def test_json_refuses_what_only_the_default_keeps():
    """The path is named for plain JSON too."""
    with pytest.raises(SerDesError, match=r"^value\['when'\]\[0\] is a datetime; "):
        serialize(DEFAULT_JSON_SERDES, {"when": [datetime(2024, 1, 2, tzinfo=UTC)]}, "op", ARN)


def test_the_same_value_twice_is_not_circular():
    """A value may occur at several places; the fault elsewhere is the one that is named."""
    shared = [1]
    assert both_ways(None, {"a": shared, "b": [shared]}) == {"a": [1], "b": [[1]]}
    with pytest.raises(SerDesError, match=r"^value\['c'\] is a set"):
        serialize(None, {"a": shared, "b": [shared], "c": {1}}, "op", ARN)


@pytest.mark.parametrize("serdes", [None, DEFAULT_JSON_SERDES])
def test_too_deep_a_value_is_refused_as_such(serdes):
    """Nesting beyond Python's stack is an error of its own, found without recursion."""
    deep: list = []
    for _ in range(200_000):
        deep = [deep]
    with pytest.raises(SerDesError, match="value is nested too deeply; "):
        serialize(serdes, deep, "op", ARN)


def test_a_long_path_is_abbreviated():
    """The path of what is deep inside keeps both its ends."""
    value: object = {1}
    for number in range(300):
        value = {f"k{number}": value}
    with pytest.raises(SerDesError) as caught:
        serialize(None, value, "op", ARN)
    message = str(caught.value)
    assert message.startswith("value['k299']")
    assert "['k0'] is a set" in message
    assert "…" in message
    assert len(message) < 400


def test_a_value_without_a_fault_of_its_own_is_refused_with_the_cause():
    """What Python cannot write as text is told in Python's words."""
    with pytest.raises(SerDesError, match="Exceeds the limit"):
        serialize(None, 10**5000, "op", ARN)


@pytest.mark.parametrize(
    ("payload", "words"),
    [
        ("{", "ExtendedTypeSerDes could not read the payload of operation 'op', JSONDecodeError"),
        ('{"a": 1}', 'neither plain nor an envelope with "t" and "v"; read it with the serdes that wrote it'),
        ('{"t":"zz","v":1}', "has the tag 'zz', which this version does not know; upgrade perdure"),
        ('{"t":"l","v":{}}', "holds a dict where its tag means a list"),
        ('{"t":"m","v":{"a":{"t":"i","v":"x"}}}', "could not read the payload of operation 'op', ValueError"),
    ],
)
def test_an_unreadable_payload_is_refused_with_a_remedy(payload, words):
    """The error says what is wrong with the payload."""
    with pytest.raises(SerDesError) as caught:
        deserialize(None, payload, "op", ARN)
    assert words in str(caught.value)


class Raising(SerDes):
    """A serdes that fails as it is told to."""

    def __init__(self, error):
        self.error = error

    def serialize(self, value, serdes_context):
        raise self.error

    def deserialize(self, data, serdes_context):
        raise self.error


@pytest.mark.parametrize(
    "call", [lambda serdes: serialize(serdes, 1, "op", ARN), lambda serdes: deserialize(serdes, "1", "op", ARN)]
)
def test_an_unknown_error_of_a_serdes_is_wrapped(call):
    """The wrapper names serdes, operation, error and remedy, and has the error as its cause."""
    error = ValueError("no key")
    with pytest.raises(SerDesError) as caught:
        call(Raising(error))
    assert type(caught.value) is SerDesError
    assert caught.value.__cause__ is error
    assert caught.value.message == str(caught.value)
    for word in ("Raising", "'op'", "ValueError('no key')", "RetryableSerDesError"):
        assert word in str(caught.value)


@pytest.mark.parametrize("error", [SerDesError("m", data="d"), PayloadTooLargeError("m"), RetryableSerDesError("m")])
def test_a_classified_error_of_a_serdes_passes(error):
    """It is the very same object that comes out, with its fields."""
    for call in (lambda: serialize(Raising(error), 1, "op", ARN), lambda: deserialize(Raising(error), "1", "op", ARN)):
        with pytest.raises(type(error)) as caught:
            call()
        assert caught.value is error


def test_another_invocation_error_is_no_classified_one():
    """Only the retryable error for serializers ends the invocation."""
    with pytest.raises(SerDesError):
        serialize(Raising(InvocationError("m")), 1, "op", ARN)


def test_a_serdes_may_answer_with_nothing_but_with_no_other_thing():
    """None is no payload; anything else that is no text is refused, naming the serdes."""
    assert serialize(PASS_THROUGH_SERDES, None, "op", ARN) is None
    with pytest.raises(SerDesError, match="PassThroughSerDes made an int for operation 'op'; make a text, or None"):
        serialize(PASS_THROUGH_SERDES, 7, "op", ARN)


# --------------------------------------------------------------------------------------------------------------- size


def test_a_payload_up_to_the_limit_is_given_back():
    """The limit itself is allowed, and no payload has no size."""
    payload = "x" * PAYLOAD_LIMIT_BYTES
    assert check_size(payload, "result of step 'pay'") is payload
    assert check_size(None, "result of step 'pay'") is None


def test_a_payload_above_the_limit_is_refused_with_its_size():
    """The error names whose it is, size, limit and the remedy, and is a `SerDesError`, never retried."""
    with pytest.raises(PayloadTooLargeError) as caught:
        check_size("x" * 1_048_577, "result of step 'pay'")
    assert isinstance(caught.value, SerDesError)
    assert str(caught.value) == (
        "result of step 'pay' has 1048577 bytes, and 1048576 are allowed; store it elsewhere and return a reference to "
        "it, or pass a serdes that compresses or offloads it"
    )


@given(st.text(max_size=20), st.integers(0, 60))
def test_size_is_counted_in_bytes(text, limit):
    """Characters beyond ASCII count as many bytes as they have in UTF-8."""
    if len(text.encode()) <= limit:
        assert check_size(text, "input", limit) == text
    else:
        with pytest.raises(PayloadTooLargeError, match=f"^input has {len(text.encode())} bytes, and {limit} are"):
            check_size(text, "input", limit)


def test_what_no_store_can_keep_is_refused():
    """Half a surrogate pair has no bytes; only a custom serdes can produce one, as JSON escapes it."""
    with pytest.raises(SerDesError, match="half a surrogate pair at character 1; encode it"):
        check_size("a\ud800", "result")
    assert json.loads(check_size(serialize(None, "a\ud800", "op", ARN), "result")) == "a\ud800"
