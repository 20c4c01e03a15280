"""The estimate of the store's time."""

from __future__ import annotations

import time

from perdure.service.clock import StoreClock
from perdure.storage import MICROSECONDS


def test_an_estimate_is_never_kept_when_the_store_says_it_is_ahead():
    """The last answer decides, whether the store's clock is behind by little or was set back by much."""
    clock = StoreClock()
    assert clock.now() == 0
    for now in (10_000_000_000, 9_999_600_000, 1_000_000_000):
        began = time.monotonic()
        clock.read(now)
        found = clock.now()
        assert now <= found <= now + (time.monotonic() - began) * MICROSECONDS


def test_a_slow_answer_does_not_put_an_estimate_back():
    """It tells what the time was when it was given, which may be long ago: so much is known already."""
    clock = StoreClock()
    clock.read(10_000_000_000)
    before = clock.now()
    clock.read(before - 2_000_000, asked=time.monotonic_ns() - 5_000_000_000)
    assert clock.now() >= before


def test_a_clock_that_was_set_back_is_followed_within_what_an_answer_took():
    """The store's time when it answered was that of its answer; since it was asked no more than this has passed."""
    clock = StoreClock()
    clock.read(10_000_000_000)
    asked = time.monotonic_ns() - 1_000_000_000
    clock.read(4_000_000_000, asked)
    found = clock.now()
    assert 4_000_000_000 <= found <= 4_000_000_000 + (time.monotonic_ns() - asked) // 1000


def test_an_estimate_goes_on_between_answers():
    """By the process's own clock."""
    clock = StoreClock()
    clock.read(1_000)
    before = clock.now()
    while clock.now() == before:
        pass
    assert clock.now() > before
