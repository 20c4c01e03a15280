"""
The store conformance kit: what every backend's store must do, as plain pytest classes.

A backend's test module imports the classes and defines one fixture:

    from perdure.testing.conformance import *
    from perdure.testing.conformance import Subject
    from perdure.testing.clock import VirtualClock

    @pytest.fixture
    def new_subject(tmp_path):
        def make():
            clock, path = VirtualClock(), tmp_path / secrets.token_hex(8)
            return Subject(open=lambda: MyStore(path, clock=clock), advance=clock.advance)
        return make
"""

import pytest

pytest.register_assert_rewrite(*(f"{__name__}.{module}" for module in ("stage", "scripts", "creation")))

from perdure.testing.conformance.creation import TestCreation  # noqa: E402
from perdure.testing.conformance.subject import Subject  # noqa: E402

__all__ = ["Subject", "TestCreation"]
