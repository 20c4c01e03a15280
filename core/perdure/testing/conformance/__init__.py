"""
The store conformance kit: what every backend's store must do, as plain pytest classes.

It needs `pip install 'perdure[testing]'`. A store's test module imports the classes and defines one fixture:

    import secrets

    import pytest

    from perdure.testing.clock import VirtualClock
    from perdure.testing.conformance import *

    from my_store import MyStore

    @pytest.fixture
    def new_subject(tmp_path):
        def make():
            clock, path = VirtualClock(), tmp_path / secrets.token_hex(8)
            return Subject(open=lambda: MyStore(path, clock=clock), advance=clock.advance)
        return make

The clock is a callable that answers microseconds; `Subject` says what the two arguments are for. No plug-in and no
configuration of pytest are needed. All that a store has to know is in `perdure.storage`; the numbers of rules in the
docstrings of the tests are for the design's own use.

Begin with the rules one by one, `pytest -k "not StateMachine"`, which takes seconds. The state machine comes last: it
plays random programs on the store and on the memory store and compares everything they answer, and to reduce what it
has found to a short example takes it minutes.
"""

import pkgutil

import pytest

pytest.register_assert_rewrite(*(f"{__name__}.{module.name}" for module in pkgutil.iter_modules(__path__)))

from perdure.testing.conformance.awaiting import TestAwaits  # noqa: E402
from perdure.testing.conformance.claiming import TestClaiming  # noqa: E402
from perdure.testing.conformance.committing import TestCommitting, TestFencing  # noqa: E402
from perdure.testing.conformance.creation import TestCreation  # noqa: E402
from perdure.testing.conformance.hinting import TestHints  # noqa: E402
from perdure.testing.conformance.leasing import TestFunctions, TestLeases, TestWhoIsThere  # noqa: E402
from perdure.testing.conformance.listing import TestListing, TestPaging, TestPurging  # noqa: E402
from perdure.testing.conformance.machine import TestStateMachine  # noqa: E402
from perdure.testing.conformance.racing import TestRaces  # noqa: E402
from perdure.testing.conformance.scripting import TestScripts  # noqa: E402
from perdure.testing.conformance.settling import TestEffects  # noqa: E402
from perdure.testing.conformance.signalling import TestSignals  # noqa: E402
from perdure.testing.conformance.subject import Subject  # noqa: E402
from perdure.testing.conformance.timing import TestDeadlines, TestNext  # noqa: E402

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
    "TestNext",
    "TestPaging",
    "TestPurging",
    "TestRaces",
    "TestScripts",
    "TestSignals",
    "TestStateMachine",
    "TestWhoIsThere",
]
