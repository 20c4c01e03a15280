"""Bodies of rows: compact JSON that stays readable for ever."""

from __future__ import annotations

import json

import pytest

from perdure.errors import SchemaVersionError, StoreError
from perdure.journal.entry import Ended, Entry, Outcome, Started, decode, encode
from perdure.model import ErrorObject, ExecutionStatus, OperationStatus


def test_a_body_is_compact_json_with_the_format_first(update):
    """Defaults are left out, members have the wire's names."""
    entry = Entry(updates=(update("STEP", "START", "s", name="charge"),), fired=("w",))
    assert encode(entry) == (
        b'{"Format":1,"Updates":[{"Id":"s","Type":"STEP","Action":"START","Name":"charge"}],"Fired":["w"]}'
    )
    assert encode(Entry()) == b'{"Format":1}'


def test_instants_are_microseconds(journal):
    """Inside an entry as in the store's own columns."""
    body = encode(Entry(invocation=journal.invocation()))
    assert body == b'{"Format":1,"InvocationCompleted":{"RequestId":"request-1","StartTimestamp":1790000000000000}}'


def test_defaults_of_every_member_are_left_out(update):
    """A default that is read back is what was written."""
    entry = Entry(updates=(update("CALLBACK", "START", "c", timeouts=(0, 5)),))
    members = json.loads(encode(entry))
    assert members["Updates"][0]["CallbackOptions"] == {"HeartbeatTimeoutSeconds": 5}
    assert decode(encode(entry)) == entry


def test_the_first_entry_names_what_later_versions_may_do_otherwise():
    """The scheme of its ids and its retention stand in a journal even where they are this version's defaults."""
    entry = Entry(started=Started(name="n", function="f", version="1", input="{}"))
    assert json.loads(encode(entry))["Started"] == {
        "Name": "n",
        "Function": "f",
        "Version": "1",
        "Input": "{}",
        "RetentionDays": 14,
        "IdScheme": "blake2b-64",
    }
    assert decode(encode(entry)) == entry


@pytest.mark.parametrize("text", ["", "ü € 𝄞", 'quote " and \\ and \x00 and \n', "\ud800 alone", "\udc80"])
def test_any_text_survives(text):
    """Payloads are opaque: whatever a string can hold comes back, lone surrogates included."""
    entry = Entry(outcome=Outcome(status=OperationStatus.SUCCEEDED, result=text))
    assert decode(encode(entry)) == entry


def test_a_newer_format_is_refused():
    """What a later version wrote is not guessed at, and the message says what to do."""
    with pytest.raises(SchemaVersionError, match="has format 2, and this version reads formats up to 1; upgrade"):
        decode(b'{"Format":2,"Started":"something else"}')


def test_unknown_members_of_a_known_format_are_ignored():
    """Additions that need no new format do not disturb."""
    entry = decode(b'{"Format":1,"Ended":{"Status":"FAILED","Error":{"ErrorType":"E","New":1}},"Novelty":[]}')
    assert entry == Entry(ended=Ended(status=ExecutionStatus.FAILED, error=ErrorObject(type="E")))


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"not json",
        b"[]",
        b"{}",
        b'{"Format":"1"}',
        b'{"Format":1,"Fired":5}',
        b'{"Format":1,"Started":{"Name":"n"}}',
        b'{"Format":1,"Ended":{"Status":"?"}}',
        b"\xff\xfe\xfd",
    ],
)
def test_what_is_no_entry_is_a_store_error(body):
    """A damaged row is named as such."""
    with pytest.raises(StoreError, match="no entry of format 1"):
        decode(body)
