"""
Errors of the SDKs' own that ours words differently, on purpose: its messages name what was expected, and the remedy.

Types, and the rest of an error, are the same. Where a text of one SDK stands for one of the other, both are replaced by
its name before stories are compared.
"""

from __future__ import annotations

import re

_ID = "[0-9a-f]{64}"
_END = r'(?=["\\]|$)'
_REMEDY = "or raise RetryableSerDesError where another try may help"

WORDINGS = {
    "<without a form>": (
        r"the payload of [^\"]*?: value is an? [^\"]*?; convert it to a supported type, or pass a serdes that takes it",
        r"Unsupported type: <class '\w+'>",
    ),
    "<not written>": (
        rf"(?<![\w.<>])[\w.<>]+ could not serialize an? \w+ for [^\"]*?, .*?; give it what it takes, {_REMEDY}",
        rf"Serialization failed for id: {_ID}, error: .*?\.{_END}",
    ),
    "<not read>": (
        rf"(?<![\w.<>])[\w.<>]+ could not read the payload of [^\"]*?, .*?; use the serdes that wrote it, {_REMEDY}",
        rf"Deserialization failed for id: {_ID}, error: .*?\.{_END}",
    ),
    "<no error>": (
        r"\b\w+ '[^']*' is [A-Z_]+, and no error is recorded",
        r"Unknown error\. No ErrorObject exists on the Checkpoint Operation\.",
    ),
    "<failed as decided>": (
        r"the batch ended as failed without a failed item \((?=[A-Z_]+\))",
        r"Batch completed as failed by should_complete \((?=[A-Z_]+\))",
    ),
    "<interrupted>": (
        r"attempt \d+ of step '?.*?'? was begun by an earlier invocation that did not record its end",
        rf"Step operation_id={_ID} name=.*? was previously interrupted",
    ),
    "<given up>": (
        r"the condition is not met after (\d+) attempts of at most \1; raise max_attempts if it may take longer",
        r"wait_for_condition exhausted \d+ attempts before the condition was met",
    ),
}
"""By name: patterns of ours, and of AWS's."""

_PATTERNS = [(name, re.compile("|".join(f"(?:{each})" for each in pair))) for name, pair in WORDINGS.items()]


def alike(text: str) -> str:
    """The text with what the SDKs word differently replaced."""
    for name, pattern in _PATTERNS:
        text = pattern.sub(name, text)
    return text
