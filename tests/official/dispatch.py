"""The handler of processes that run any of the suite's functions."""

from __future__ import annotations

import os
from typing import Any

from tests.official import bodies
from tests.official.function import name_and_qualifier
from tests.official.handlers import Catalogue
from tests.official.names import HANDLERS

bodies.watch()
_CATALOGUE = Catalogue.of(os.environ[HANDLERS])


def handle(event: Any, lambda_context: Any) -> Any:
    """Run the handler of the function that was invoked, as if the process were that function's."""
    name, _ = name_and_qualifier(lambda_context.invoked_function_arn)
    lambda_context.function_name = name
    return _CATALOGUE.handlers[name](event, lambda_context)
