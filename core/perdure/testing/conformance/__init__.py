"""
The store conformance kit: what every backend's store must do, as plain pytest classes.

A backend's test module imports the classes and defines one fixture:

    from perdure.testing.conformance import *
    from perdure.testing.clock import VirtualClock

    @pytest.fixture
    def new_subject(tmp_path):
        def make():
            clock, path = VirtualClock(), tmp_path / secrets.token_hex(8)
            return Subject(open=lambda: MyStore(path, clock=clock), advance=clock.advance)
        return make
"""

import pkgutil

import pytest

pytest.register_assert_rewrite(*(f"{__name__}.{module.name}" for module in pkgutil.iter_modules(__path__)))

from perdure.testing.conformance.awaiting import TestAwaits  # noqa: E402
from perdure.testing.conformance.claiming import TestClaiming  # noqa: E402
from perdure.testing.conformance.committing import TestCommitting, TestFencing  # noqa: E402
from perdure.testing.conformance.creation import TestCreation  # noqa: E402
from perdure.testing.conformance.hinting import TestHints  # noqa: E402
from perdure.testing.conformance.leasing import TestFunctions, TestLeases  # noqa: E402
from perdure.testing.conformance.listing import TestListing, TestPaging, TestPurging  # noqa: E402
from perdure.testing.conformance.machine import TestStateMachine  # noqa: E402
from perdure.testing.conformance.racing import TestRaces  # noqa: E402
from perdure.testing.conformance.scripting import TestScripts  # noqa: E402
from perdure.testing.conformance.settling import TestEffects  # noqa: E402
from perdure.testing.conformance.signalling import TestSignals  # noqa: E402
from perdure.testing.conformance.subject import Subject  # noqa: E402
from perdure.testing.conformance.timing import TestDeadlines  # noqa: E402

__all__ = [
    "Subject",
    "TestAwaits",
    "TestClaiming",
    "TestCommitting",
    "TestCreation",
    "TestDeadlines",
    "TestEffects",
    "TestFencing",
    "TestFunctions",
    "TestHints",
    "TestLeases",
    "TestListing",
    "TestPaging",
    "TestPurging",
    "TestRaces",
    "TestScripts",
    "TestSignals",
    "TestStateMachine",
]
