from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from tests.scenarios.colour import Colour, durable

if TYPE_CHECKING:
    from collections.abc import Callable

    from perdure.durable import DurableFunction


@pytest.fixture(params=list(Colour), ids=str)
def colour(request: pytest.FixtureRequest) -> Colour:
    return request.param


@pytest.fixture
def workflow(colour: Colour) -> Callable[..., DurableFunction[Any, Any]]:
    """Makes a durable function of an `async def`, in each colour."""

    def make(function: Callable[..., Any], **options: Any) -> DurableFunction[Any, Any]:
        return durable(colour, function, **options)

    return make
