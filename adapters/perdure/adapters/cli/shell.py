"""The command `perdure`: its sub-commands, and what is said and returned when one of them fails."""

from __future__ import annotations

import os
import traceback
import warnings
from importlib.metadata import version
from typing import TYPE_CHECKING, TextIO

import click

from perdure.adapters.cli.callback import callback
from perdure.adapters.cli.demo import demo
from perdure.adapters.cli.execution import delete, history, list_, pause, purge, resume, show, start, stop
from perdure.adapters.cli.fleet import workers
from perdure.adapters.cli.migration import migrate
from perdure.adapters.cli.outcome import EXPLANATION, ExitCode, exit_code, one_line
from perdure.adapters.cli.work import worker
from perdure.errors import DurableExecutionsError

if TYPE_CHECKING:
    from collections.abc import Sequence


@click.group(epilog=EXPLANATION, invoke_without_command=True, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(version("perdure"), message="perdure %(version)s")
@click.pass_context
def perdure(context: click.Context) -> None:
    """Durable execution: workflows that go on after crashes, deploys and long waits."""
    if context.invoked_subcommand is None:
        click.echo(context.get_help())


for command in (
    demo,
    worker,
    start,
    list_,
    show,
    history,
    callback,
    stop,
    pause,
    resume,
    delete,
    purge,
    workers,
    migrate,
):
    perdure.add_command(command)


def run(arguments: Sequence[str] | None = None) -> int:
    """
    Run one command.

    Args:
        arguments: Those of the process if None.

    Returns:
        The exit code.
    """
    warnings.showwarning = _warn
    try:
        outcome = perdure.main(args=arguments, prog_name="perdure", standalone_mode=False)
    except SystemExit:
        # Click's way out when nobody reads the output any more.
        return ExitCode.OK
    except (Exception, KeyboardInterrupt) as error:  # noqa: BLE001 - the last resort; nobody gets a traceback unasked
        if os.environ.get("PERDURE_DEBUG"):
            traceback.print_exc()
        text, code = _judged(error)
        click.echo(f"perdure: {text}", err=True)
        return code
    return outcome if isinstance(outcome, int) else ExitCode.OK


def _judged(error: BaseException) -> tuple[str, ExitCode]:
    match error:
        case click.UsageError(ctx=click.Context(command_path=path)):
            return f"{_clicked(error)}; see '{path} --help'", ExitCode.USAGE
        case click.ClickException():
            return _clicked(error), ExitCode.USAGE
        case DurableExecutionsError():
            return one_line(error), exit_code(error)
        case click.Abort() | KeyboardInterrupt():
            return "interrupted", ExitCode.INTERRUPTED
        case _:
            return f"{type(error).__name__}: {one_line(error)}; PERDURE_DEBUG=1 shows where", ExitCode.INTERNAL


def _clicked(error: click.ClickException) -> str:
    # Click's text in the form of ours: one line, lower case, no full stop.
    text = " ".join(error.format_message().split()).rstrip(".")
    return text[:1].lower() + text[1:]


def _warn(
    message: Warning | str,
    category: type[Warning],
    filename: str,
    lineno: int,
    file: TextIO | None = None,
    line: str | None = None,
) -> None:
    del category, filename, lineno, file, line
    click.echo(f"perdure: warning: {message}", err=True)
