"""The scripts, as tests."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from perdure.testing.conformance.scripts import SCRIPTS
from perdure.testing.conformance.subject import Conformance

if TYPE_CHECKING:
    from perdure.testing.conformance.scripts import Script
    from perdure.testing.conformance.stage import Stage


class TestScripts(Conformance):
    """What each rule is for."""

    @pytest.mark.parametrize("script", SCRIPTS, ids=lambda script: script.__name__)
    async def test_script(self, stage: Stage, script: Script) -> None:
        """The sequence ends as the rule has it."""
        await script(stage)
