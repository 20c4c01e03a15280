"""
A serializer that keeps values as files, and only pointers to them in the journal: for values too large for it.

The folder must be durable, and shared by all that run the workflow: on AWS Lambda a mount of EFS or S3 Files, never
`/tmp`; for workers on one machine any folder. Nothing removes the files; they are needed as long as their execution is
replayed or looked at.
"""

from __future__ import annotations

import hashlib
import json
import os
from enum import StrEnum
from pathlib import Path
from typing import Any, Protocol
from urllib.parse import quote

import attrs

from perdure.serdes import EXTENDED_TYPES_SERDES, SerDes, SerDesContext
from perdure.types import DurableExecutionArn
from perdure.value import Value

__all__ = [
    "FileSystemPathEncoding",
    "FileSystemSerDes",
    "FileSystemSerDesConfig",
    "FileSystemSerDesMode",
    "GeneratePreview",
]

OVERFLOW_BYTES = 255 * 1024
"""A pointer takes the place of more; what a context's result may have, less a KiB for what is around it."""


class FileSystemSerDesMode(StrEnum):
    """Which values become files: all, or those that are too large for the journal."""

    ALWAYS = "ALWAYS"
    OVERFLOW = "OVERFLOW"


class FileSystemPathEncoding(StrEnum):
    """
    How files are named.

    URI: `<function>/<execution name>/<execution id>/<operation id>.json`, percent-encoded; an ARN of another shape is
    one folder. HASH: the SHA-256 of the ARN, and that of the operation's id.
    """

    URI = "URI"
    HASH = "HASH"


class GeneratePreview(Protocol):
    """Makes what is shown of a value beside the pointer to it, or None."""

    def __call__(self, value: Any) -> dict[str, Any] | None:
        """The preview of `value`; see `perdure.preview`."""
        ...


@attrs.frozen(eq=False, repr=False)
class FileSystemSerDesConfig(Value):
    """
    How `FileSystemSerDes` works.

    Attributes:
        storage_mode: Which values become files.
        path_encoding: How files are named.
        generate_preview: Makes what is shown of a value beside the pointer to it.
        serdes: Makes the files' content.
    """

    storage_mode: FileSystemSerDesMode = FileSystemSerDesMode.ALWAYS
    path_encoding: FileSystemPathEncoding = FileSystemPathEncoding.URI
    generate_preview: GeneratePreview | None = None
    serdes: SerDes[Any] = EXTENDED_TYPES_SERDES


class FileSystemSerDes(SerDes[Any]):
    """
    Keeps values as files below `base_path`.

    Payloads are `{"file": path}`, with a `preview` if one is made, or `{"data": payload}` of a value that is kept in
    the journal. A file is there whole or not at all.
    """

    def __init__(self, base_path: str, config: FileSystemSerDesConfig | None = None) -> None:
        self._base = base_path
        self._config = config or FileSystemSerDesConfig()

    def serialize(self, value: Any, serdes_context: SerDesContext) -> str:
        """Write the file, and point at it."""
        content = self._config.serdes.serialize(value, serdes_context)
        if self._config.storage_mode is FileSystemSerDesMode.OVERFLOW:
            inline = json.dumps({"data": content})
            if len(inline.encode()) <= OVERFLOW_BYTES:
                return inline
        pointer: dict[str, Any] = {"file": self._write(content, serdes_context)}
        if self._config.generate_preview and (preview := self._config.generate_preview(value)):
            pointer["preview"] = preview
        return json.dumps(pointer)

    def deserialize(self, data: str, serdes_context: SerDesContext) -> Any:
        """Read the file that is pointed at."""
        pointer = json.loads(data)
        content = Path(pointer["file"]).read_text(encoding="utf-8") if "file" in pointer else pointer["data"]
        return self._config.serdes.deserialize(content, serdes_context)

    def _write(self, content: str, context: SerDesContext) -> str:
        folder = Path(self._base, *self._folder(context.durable_execution_arn))
        folder.mkdir(parents=True, exist_ok=True)
        path = folder / f"{self._encoded(context.operation_id)}.json"
        # A process that dies while it writes must leave nothing that an earlier pointer leads to.
        draft = folder / f".{os.urandom(8).hex()}"
        draft.write_text(content, encoding="utf-8")
        draft.replace(path)
        return str(path)

    def _folder(self, arn: str) -> tuple[str, ...]:
        if self._config.path_encoding is FileSystemPathEncoding.URI and (parts := DurableExecutionArn.from_arn(arn)):
            return parts.function_name, parts.execution_name, parts.invocation_id
        return (self._encoded(arn),)

    def _encoded(self, text: str) -> str:
        if self._config.path_encoding is FileSystemPathEncoding.HASH:
            return hashlib.sha256(text.encode()).hexdigest()
        return quote(text, safe="")
