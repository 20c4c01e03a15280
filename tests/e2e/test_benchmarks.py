"""The benchmark program in its smallest sizes: that it runs, not what it measures."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from benchmarks.catalogue import WORKLOADS

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def document(tmp_path_factory):
    """What two runs have left in one file: both colours, the floor, and a peer that is nowhere."""
    folder = tmp_path_factory.mktemp("benchmarks")
    arguments = ["--quick", "--repeat", "1", "--folder", str(folder), "--json", str(folder / "figures.json")]
    arguments += [
        "--set",
        "w8.idle=0.1",
        "--set",
        "w11.hold=0.5",
        "--set",
        "w11.window=0.2",
        "--python",
        "dbos=/nowhere/python",
    ]
    first = ["--systems", "perdure:sqlite,floor:sqlite,dbos:sqlite", "--workloads", "w1,w3,w4,w7,w8,w9,w11,w12"]
    second = ["--systems", "perdure:memory,perdure:sqlite-async", "--workloads", "w2,w5,w6,w10", "--append"]
    output = ""
    for more in (first, second):
        done = subprocess.run(
            [sys.executable, "-m", "benchmarks", *arguments, *more],
            cwd=ROOT,
            capture_output=True,
            text=True,
            timeout=300,
            check=False,
        )
        assert done.returncode == 0, done.stdout + done.stderr
        output = done.stdout
    return {**json.loads((folder / "figures.json").read_text(encoding="utf-8")), "output": output}


def test_every_workload_has_its_headline(document):
    """Each workload ran on at least one system, with all its samples and a calibration beside the medians."""
    measured = [result for result in document["results"] if "metrics" in result]
    assert {result["workload"] for result in measured} == set(WORKLOADS)
    for result in measured:
        headline = WORKLOADS[result["workload"]].figures[0].metric
        assert result["samples"][headline] == [result["metrics"][headline]]
        assert set(result["calibrations"][0]) == {"cpu_ms", "fsync_us", "load", "disk"}
        assert result["sizes"].keys() == WORKLOADS[result["workload"]].sizes.keys()
        assert result["versions"]["python"]


def test_nothing_fails_and_what_is_skipped_says_why(document):
    """Without an engine there are no timers, without its interpreter no peer; all else was measured."""
    skipped = {(result["system"], result["workload"]): result.get("skipped") for result in document["results"]}
    assert not [result["error"] for result in document["results"] if "error" in result]
    assert skipped["floor:sqlite", "w8"] == "no timers"
    assert skipped["dbos:sqlite", "w1"] == "there is no interpreter /nowhere/python"
    assert skipped["perdure:memory", "w10"] == "the store is gone with its process"
    assert all(
        reason is None
        for (system, _), reason in skipped.items()
        if system in ("perdure:sqlite", "perdure:sqlite-async")
    )


def test_a_killed_worker_is_recovered_from(document):
    """W4 has real processes: the first one was killed, the second one knew of it and replayed."""
    (metrics,) = (
        result["metrics"]
        for result in document["results"]
        if (result["system"], result["workload"]) == ("perdure:sqlite", "w4")
    )
    assert metrics["attempts"] == 2
    assert 0 < metrics["known_dead_ms"] <= metrics["recover_ms"]


def test_later_runs_add_to_the_file_and_all_of_it_is_shown(document):
    """`--append` keeps the other cells; the table has a part per workload, and the ratio to the floor."""
    for name, workload in WORKLOADS.items():
        assert f"{name.upper()}  {workload.title}" in document["output"]
    assert "×floor" in document["output"]
