"""The estimate of the store's time."""

from __future__ import annotations

from perdure.service.clock import StoreClock


def test_an_estimate_is_never_kept_when_the_store_says_it_is_ahead():
    """The last answer decides, whether the store's clock is behind by little or was set back by much."""
    clock = StoreClock()
    assert clock.now() == 0
    for now in (10_000_000_000, 9_999_600_000, 1_000_000_000):
        clock.read(now)
        assert now <= clock.now() < now + 300_000


def test_an_estimate_goes_on_between_answers():
    """By the process's own clock."""
    clock = StoreClock()
    clock.read(1_000)
    before = clock.now()
    while clock.now() == before:
        pass
    assert clock.now() > before
