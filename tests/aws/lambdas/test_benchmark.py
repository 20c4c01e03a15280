"""The benchmark beside AWS's SDK: that it runs and measures what it says, not how long anything takes."""

from __future__ import annotations

import json

from benchmarks.aws.__main__ import ALL, main
from benchmarks.aws.stage import Bare


def test_the_program(tmp_path, capsys):
    """Each side has a figure of each kind, in the table and in the file."""
    assert main(["--repeat", "1", "--only", "three", "--json", str(tmp_path / "figures.json")]) == 0
    figures = json.loads((tmp_path / "figures.json").read_text())
    assert len(figures) == 2 * 4 + 3
    assert all(sorted(by_side) == sorted(ALL) for by_side in figures.values())
    assert figures["three on a bare plane: checkpoints"] == {side: [3] for side in ALL}
    assert "three on the emulator: all, ms" in capsys.readouterr().out


def test_what_is_measured():
    """The time in the handler is part of the whole, and a plane that takes its time is waited for."""
    with Bare(["perdure"], 0.05) as stage:
        took = stage.run("perdure", "three", None, 3)
    assert took.whole > took.handler > 150
    assert took.handler > took.busy > 0
