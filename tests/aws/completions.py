"""Workflows of the ways in which a batch may end, for both SDKs; see `sides`."""

from __future__ import annotations

from tests.aws.batches import NESTINGS, failing, items, waiting
from tests.aws.sides import Catalogue

COMPLETIONS = Catalogue("batch_")


def _deciding(kit, outcome):
    """A predicate that ends a batch with the second branch that has ended."""

    def should_complete(status):
        if status.success_count + status.failure_count < 2:
            return kit.continue_batch()
        kit.note(str([item.status and item.status.value for item in status.items]))
        return kit.complete_batch(outcome=getattr(kit.CompletionOutcome, outcome))

    return {"should_complete": should_complete}


POLICIES = {
    "default": lambda kit: kit.CompletionConfig(),
    "all_completed": lambda kit: kit.CompletionConfig.all_completed(),
    "all_successful": lambda kit: kit.CompletionConfig.all_successful(),
    "first": lambda kit: kit.CompletionConfig.first_successful(),
    "two": lambda kit: kit.CompletionConfig(min_successful=2),
    "one_failure": lambda kit: kit.CompletionConfig(tolerated_failure_count=1),
    "half": lambda kit: kit.CompletionConfig(tolerated_failure_percentage=50),
    "two_or_one_failure": lambda kit: kit.CompletionConfig(min_successful=2, tolerated_failure_count=1),
    "succeeded": lambda kit: kit.CompletionConfig(**_deciding(kit, "SUCCEEDED")),
    "failed": lambda kit: kit.CompletionConfig(**_deciding(kit, "FAILED")),
}


def _completion(policy, nesting, slots):
    """Five branches, the second and the fourth fail; with more than one slot each ends at a time of its own."""

    def build(kit):
        def failing_after(seconds, name):
            def branch(context):
                kit.wait(context, seconds)
                return failing(kit, name)(context)

            return branch

        def workflow(event, context):
            branches = [
                waiting(kit, "zero", 1, 0),
                failing_after(2, "one"),
                waiting(kit, "two", 3, 2),
                failing_after(4, "three"),
                waiting(kit, "four", 5, 4),
            ]
            completion = POLICIES[policy](kit)
            nesting_type = getattr(kit.NestingType, nesting)
            return items(
                context.parallel(branches, "p", kit.ParallelConfig(slots, completion, nesting_type=nesting_type))
            )

        return workflow

    build.__name__ = f"completion_{policy}_{nesting.lower()}_{slots or 'all'}"
    return build


for _policy in POLICIES:
    for _nesting in NESTINGS:
        for _slots in (None, 1, 2):
            # FLAT branches are replayed, and the threads of AWS's may count the next end before one that is recorded.
            COMPLETIONS.add(races=_nesting == "FLAT" and _slots != 1)(_completion(_policy, _nesting, _slots))
