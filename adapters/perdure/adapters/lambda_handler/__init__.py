"""The handler that AWS Lambda calls: one invocation of a durable function, its service reached through boto3."""

from __future__ import annotations

from perdure.adapters.lambda_handler.handler import Handler

__all__ = ["Handler", "handler"]

handler = Handler
"""What the entry point `lambda` of the group `perdure.handlers` names: makes a handler of a `DurableFunction`."""
