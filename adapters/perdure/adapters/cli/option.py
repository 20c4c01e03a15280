"""Arguments that several commands share, and what they print on."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click
from rich.console import Console

if TYPE_CHECKING:
    from collections.abc import Callable

DEFAULT_BACKEND = "sqlite:///perdure.db"
PIPE_WIDTH = 2000

F = TypeVar("F", bound="Callable[..., Any]")


def on_backend(command: F) -> F:
    """Give a command `backend` and `as_json`."""
    backend = click.option(
        "--backend",
        callback=_shared,
        envvar="PERDURE_BACKEND",
        default=DEFAULT_BACKEND,
        show_default=True,
        show_envvar=True,
        metavar="URL",
        help="Where executions are kept.",
    )
    return backend(as_json(command))


def _shared(_: click.Context, __: click.Parameter, url: str) -> str:
    if url.startswith("memory:"):
        # What one command puts there is gone before the next one can see it.
        raise click.UsageError(f"memory:// is private to one process; name a store such as {DEFAULT_BACKEND!r}")
    return url


def as_json(command: F) -> F:
    """Give a command `as_json`."""
    return click.option("--json", "as_json", is_flag=True, help="Print JSON with the member names of AWS's API.")(
        command
    )


def of_execution(command: F) -> F:
    """Give a command `execution` and `function`."""
    function = click.option("--function", metavar="NAME", help="The function, where several have one of that name.")
    return click.argument("execution", metavar="ARN_OR_NAME")(function(command))


def json_text(_: click.Context, option: click.Parameter, value: str | None) -> Any:
    """The value of an option that is JSON, or `@` and the file it is in, `-` being standard input."""
    if value is None:
        return None
    given = content(value)
    try:
        return json.loads(given)
    except ValueError as error:
        hint = "quote it for the shell, or name a file as @FILE"
        raise click.BadParameter(f"no JSON: {error}; {hint}", param=option, param_hint=f"'{option.opts[0]}'") from None


def content(value: str) -> str:
    """The text itself, or that of the file named behind an `@`."""
    if not value.startswith("@"):
        return value
    name = value[1:]
    try:
        return sys.stdin.read() if name == "-" else Path(name).read_text(encoding="utf-8")
    except (OSError, ValueError) as error:
        raise click.BadParameter(f"file {name!r} cannot be read: {error}") from None


def console() -> Console:
    """Standard output; in a pipe no line is folded."""
    return Console(width=None if sys.stdout.isatty() else PIPE_WIDTH, highlight=False, markup=False)
