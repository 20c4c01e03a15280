"""The handler that AWS Lambda calls: one invocation of a durable function, its service reached through boto3."""

from __future__ import annotations

from perdure.adapters.lambda_handler.handler import Handler

__all__ = ["Handler", "handler"]

handler = Handler
"""Makes a handler of a `DurableFunction`, which itself asks for it by this name when it is called."""
