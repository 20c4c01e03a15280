from __future__ import annotations

import shutil
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from collections.abc import Iterator


@pytest.fixture
def folder() -> Iterator[Path]:
    """A folder that others may look into, which those of pytest are not."""
    path = Path(tempfile.mkdtemp(prefix="perdure-"))
    path.chmod(0o755)
    yield path
    shutil.rmtree(path)
