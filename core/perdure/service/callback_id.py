"""CallbackIds: the name of an await and the secret that proves one was given it."""

from __future__ import annotations

import base64
import binascii
import secrets
from typing import Self

import attrs

from perdure.errors import CallbackNotFoundError

SECRET_BYTES = 16


@attrs.frozen
class CallbackId:
    """
    What completes a callback from outside.

    Attributes:
        await_id: `<execution id>/<operation id>`.
        secret: 128 random bits in hex, minted by the owner that opened the await.
    """

    await_id: str
    secret: str = attrs.field(repr=False)

    @classmethod
    def mint(cls, execution_id: str, operation_id: str) -> Self:
        """A new one for an operation."""
        return cls(f"{execution_id}/{operation_id}", secrets.token_hex(SECRET_BYTES))

    @classmethod
    def parse(cls, text: str) -> Self:
        """
        Read the text that user code was given.

        Raises:
            CallbackNotFoundError: It is no callback id.
        """
        try:
            await_id, _, secret = base64.b64decode(text, validate=True).decode().rpartition(":")
        except (binascii.Error, ValueError, TypeError):
            await_id = secret = ""
        # An empty secret would be that of an await which only the service completes.
        if "/" not in await_id or len(secret) != 2 * SECRET_BYTES:
            raise CallbackNotFoundError("this is not a callback id; pass on what the workflow was given, unchanged")
        return cls(await_id, secret)

    @property
    def execution_id(self) -> str:
        """Of the execution that waits."""
        return self.await_id.partition("/")[0]

    def __str__(self) -> str:
        return base64.b64encode(f"{self.await_id}:{self.secret}".encode()).decode()
