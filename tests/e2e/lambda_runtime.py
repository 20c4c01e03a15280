"""What AWS Lambda has beside a function's zip, and the zip itself."""

from __future__ import annotations

import subprocess
import sys
import zipfile
from importlib import import_module
from pathlib import Path

EXAMPLE = Path(__file__).parents[2] / "examples" / "aws"
LIBRARIES = (
    *("awslambdaric", "runtime_client", "snapshot_restore_py", "simplejson"),
    *("boto3", "botocore", "s3transfer", "jmespath", "dateutil", "urllib3", "six"),
)
"""AWS's runtime interface client, boto3, and what they need."""


def packed(folder: Path, *arguments: object) -> tuple[Path, str]:
    """The zip that the example's recipe makes, and what it says."""
    target = folder / "order.zip"
    done = subprocess.run(
        [sys.executable, "-W", "error", str(EXAMPLE / "package.py"), "--out", str(target), *map(str, arguments)],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return target, done.stdout


def unpacked(archive: Path, folder: Path) -> Path:
    """A folder with the files of a zip."""
    with zipfile.ZipFile(archive) as found:
        found.extractall(folder)
    return folder


def libraries(folder: Path) -> Path:
    """A folder with nothing in it but what Lambda's runtime brings."""
    folder.mkdir()
    for name in LIBRARIES:
        file = Path(import_module(name).__file__ or "")
        source = file.parent if file.name == "__init__.py" else file
        (folder / source.name).symlink_to(source)
    return folder


def interpreter(folder: Path) -> str:
    """A Python that has what Lambda's runtime has, and nothing of this environment."""
    beside = libraries(folder / "runtime")
    script = folder / "python"
    script.write_text(f'#!/bin/sh\nPYTHONPATH="{beside}" exec "{sys.executable}" -S "$@"\n', encoding="utf-8")
    script.chmod(0o755)
    return str(script)
