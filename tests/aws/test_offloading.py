"""Previews, and values kept as files, beside AWS's SDK."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from pathlib import Path

import aws_durable_execution_sdk_python.filesystem_serdes as aws_files
import aws_durable_execution_sdk_python.preview as aws_preview
import aws_durable_execution_sdk_python.serdes as aws_serdes
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from perdure import filesystem_serdes as files
from perdure import preview, serdes
from perdure.adapters.worker import Worker
from perdure.client import Client
from perdure.config import StepConfig
from perdure.durable import DurableContext, durable_execution

ARN = "arn:aws:lambda:eu-west-1:123456789012:function:order:7/durable-execution/o-17/5f0c"
NAMES = st.sampled_from(["a", "b", "c", "a.b"])
VALUE = st.recursive(
    st.none() | st.booleans() | st.integers(0, 99) | st.text(max_size=4),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(NAMES, inner, max_size=3),
    max_leaves=12,
)
RULES = st.lists(
    st.tuples(st.sampled_from(["a", "b", "c", "a.b", "b.c", "a.a"]), st.sampled_from(["ANYWHERE", "PATH"])), max_size=3
)


@given(VALUE, st.sampled_from(["INCLUDE_ALL", "EXCLUDE_ALL"]), RULES, RULES, RULES, st.sampled_from([4096, 20, 40, 2]))
@settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.too_slow])
def test_previews_are_alike(value, mode, include, exclude, mask, limit):
    """Any value under any rules has the same preview, to the order of its members."""
    made = []
    for sdk in (preview, aws_preview):
        rules = [
            [sdk.PreviewField(name, sdk.FieldMatchMode(match)) for name, match in each]
            for each in (include, exclude, mask)
        ]
        config = sdk.PreviewConfig(sdk.PreviewMode(mode), *rules, max_preview_bytes=limit)
        made.append(json.dumps(sdk.build_preview(value, config)))
    assert made[0] == made[1]


def sides(folder, mode, encoding, **options):
    """The serializer of either SDK with the same configuration, and its own kind of context."""
    for sdk, their_serdes in ((files, serdes), (aws_files, aws_serdes)):
        config = sdk.FileSystemSerDesConfig(
            sdk.FileSystemSerDesMode(mode), sdk.FileSystemPathEncoding(encoding), **options
        )
        yield sdk.FileSystemSerDes(str(folder), config), their_serdes.SerDesContext


@pytest.mark.parametrize("mode", ["ALWAYS", "OVERFLOW"])
@pytest.mark.parametrize("encoding", ["URI", "HASH"])
@pytest.mark.parametrize("arn", [ARN, "1b2c/3d4e"])
@pytest.mark.parametrize("length", [3, 255 * 1024 - 11, 255 * 1024 - 10, 300_000])
def test_payloads_and_files_are_alike(tmp_path, mode, encoding, arn, length):
    """Pointer, file name and content are the same, and each reads what the other wrote."""
    value = {"at": datetime(2026, 1, 1, tzinfo=UTC), "x" * (length // 2): "y" * (length // 2)}
    (ours, our_context), (theirs, their_context) = sides(
        tmp_path, mode, encoding, generate_preview=lambda value: {"members": len(value)}
    )
    written = []
    for side, context in ((ours, our_context), (theirs, their_context)):
        payload = side.serialize(value, context("op/1 ", arn))
        path = json.loads(payload).get("file")
        written.append((payload, path and Path(path).read_text(encoding="utf-8")))
    assert written[0] == written[1]
    assert ours.deserialize(written[1][0], our_context("op/1 ", arn)) == value
    assert theirs.deserialize(written[0][0], their_context("op/1 ", arn)) == value


def test_where_a_value_begins_to_be_a_file(tmp_path):
    """Both turn to files at the same number of bytes."""
    (ours, our_context), (theirs, their_context) = sides(tmp_path, "OVERFLOW", "URI")
    around = len(json.dumps({"data": json.dumps("")}))
    for length, key in ((255 * 1024 - around, "data"), (255 * 1024 - around + 1, "file")):
        for side, context in ((ours, our_context), (theirs, their_context)):
            assert list(json.loads(side.serialize("x" * length, context("op", ARN)))) == [key]


def test_a_file_is_there_whole_or_not_at_all(tmp_path, monkeypatch):
    """What dies in the midst of writing leaves the file of an earlier attempt as it was."""
    ((side, context), _) = sides(tmp_path, "ALWAYS", "URI")
    payload = side.serialize("first", context("op", ARN))

    def broken(path, content, encoding):
        with path.open("w", encoding=encoding) as file:
            file.write(content[:2])
        raise OSError("no space left on device")

    monkeypatch.setattr(Path, "write_text", broken)
    with pytest.raises(OSError, match="no space"):
        side.serialize("second", context("op", ARN))
    assert side.deserialize(payload, context("op", ARN)) == "first"


def test_a_step_keeps_its_result_in_a_file(tmp_path):
    """A result that the journal would not take goes through a workflow, its pointer and preview in the journal."""
    kept = files.FileSystemSerDesConfig(generate_preview=lambda value: {"length": len(value)})
    config = StepConfig(serdes=files.FileSystemSerDes(str(tmp_path), kept))

    @durable_execution
    def large(event: int, context: DurableContext) -> int:
        return len(context.step(lambda _: "x" * event, name="report", config=config))

    with Worker(backend := f"sqlite:///{tmp_path}/perdure.db", [large]), Client(backend) as client:
        handle = client.start(large, 2_000_000)
        assert handle.result(timeout=60) == 2_000_000
        (report,) = [operation for operation in handle.operations() if operation.name == "report"]
    assert report.result is not None
    assert json.loads(report.result)["preview"] == {"length": 2_000_000}
    assert "/large/" in json.loads(report.result)["file"]
