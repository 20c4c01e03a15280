"""Random texts: their form, and that they never come twice, in no thread and no forked child."""

from __future__ import annotations

import os
import re
from concurrent.futures import ThreadPoolExecutor

import pytest

from perdure.nonce import nonce, tag


def test_form():
    """Hexadecimal digits: 32 of them, 16 for a tag."""
    assert re.fullmatch("[0-9a-f]{32}", nonce())
    assert re.fullmatch("[0-9a-f]{16}", tag())


def test_none_comes_twice():
    """Also where threads run out of supply at the same time."""
    with ThreadPoolExecutor(8) as pool:
        drawn = [each for batch in pool.map(lambda _: [nonce() for _ in range(1000)], range(16)) for each in batch]
    assert len(set(drawn)) == len(drawn) == 16_000


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork here")
@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
def test_a_forked_child_draws_its_own():
    """It does not go on with what its parent had in stock."""
    nonce()
    mine, yours = os.pipe()
    child = os.fork()
    if not child:
        os.write(yours, nonce().encode())
        os._exit(0)
    os.waitpid(child, 0)
    os.close(yours)
    assert os.read(mine, 100).decode() != nonce()
    os.close(mine)
