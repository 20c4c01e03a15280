"""All workflows that AWS's SDK and ours are compared by; see `sides`."""

from __future__ import annotations

from tests.aws.awaits import AWAITS
from tests.aws.batches import BATCHES
from tests.aws.branches import BRANCHES
from tests.aws.children import CHILDREN
from tests.aws.completions import COMPLETIONS
from tests.aws.conditions import CONDITIONS
from tests.aws.executions import EXECUTIONS
from tests.aws.retries import RETRIES
from tests.aws.serializers import SERIALIZERS
from tests.aws.sides import Catalogue
from tests.aws.steps import STEPS

OPERATIONS = Catalogue.of(STEPS, RETRIES, SERIALIZERS, AWAITS, CHILDREN, CONDITIONS, EXECUTIONS)
"""Of single operations, most of them without branches."""
BRANCHED = {"serializer_contexts", "broken_serializers_of_batches", "stored_as_nothing", "condition_inside"} | {
    "wait_for_callback_inside",
    "invoke_inside",
    "with_retry_of_everything",
}
"""Workflows with branches here and there: how many share a request is a matter of luck."""
WORKFLOWS = Catalogue.of(OPERATIONS, BATCHES, BRANCHES, COMPLETIONS)
