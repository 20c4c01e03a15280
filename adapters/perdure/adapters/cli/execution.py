"""The commands about executions: start, list, show, history, stop, pause, resume, delete, purge."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from perdure.adapters.cli import document, picture
from perdure.adapters.cli.option import console, json_text, of_execution, on_backend
from perdure.adapters.cli.outcome import ExitCode
from perdure.client import Client
from perdure.duration import Duration
from perdure.errors import ExecutionFailedError, ExecutionNotFoundError, ValidationError
from perdure.model import ErrorObject, ExecutionStatus
from perdure.storage import mask

if TYPE_CHECKING:
    from perdure.client import Handle

STATUSES = [status.value for status in ExecutionStatus]


@click.command()
@click.argument("function", metavar="FUNCTION[:VERSION]")
@click.option("--input", "value", callback=json_text, default="{}", metavar="JSON|@FILE", help="{} if not given.")
@click.option("--name", help="The same name and input start it once only.")
@click.option("--wait", is_flag=True, help="Wait for its end, and print its result.")
@click.option("--timeout", type=click.FloatRange(min=0), metavar="SECONDS", help="How long to wait; it goes on anyway.")
@click.option("--execution-timeout", type=click.IntRange(min=1), metavar="SECONDS", help="How long it may take in all.")
@click.option("--retention", type=click.IntRange(1, 90), metavar="DAYS", help="How long it is kept after its end.")
@on_backend
def start(
    function: str,
    value: Any,
    name: str | None,
    wait: bool,
    timeout: float | None,
    execution_timeout: int | None,
    retention: int | None,
    backend: str,
    as_json: bool,
) -> ExitCode:
    """Start an execution; prints its ARN."""
    if timeout is not None and not wait:
        raise click.UsageError("--timeout needs --wait")
    limit = Duration.from_seconds(execution_timeout) if execution_timeout else None
    with Client(backend) as client:
        handle: Handle[Any] = client.start(
            function, value, name=name, execution_timeout=limit, retention_days=retention
        )
        if wait:
            return _waited(handle, timeout, as_json)
        click.echo(document.text(document.description(handle.describe())) if as_json else handle.arn)
        return ExitCode.OK


def _found(client: Client, backend: str, execution: str, function: str | None) -> Handle[Any]:
    try:
        return client.handle(execution, function)
    except ExecutionNotFoundError as error:
        raise ExecutionNotFoundError(f"{error}; looked in {mask(backend)!r}") from None
    except ValidationError as error:
        raise click.UsageError(f"{error} with --function") from None


def _waited(handle: Handle[Any], timeout: float | None, as_json: bool) -> ExitCode:
    failure = None
    try:
        handle.result(timeout)
    except ExecutionFailedError as error:
        failure = error
    if as_json:
        click.echo(document.text(document.description(handle.describe())))
        return ExitCode.ENDED_OTHERWISE if failure else ExitCode.OK
    if failure:
        raise failure
    click.echo(handle.describe().result or "null")
    return ExitCode.OK


@click.command("list")
@click.option("--status", multiple=True, type=click.Choice(STATUSES, case_sensitive=False), help="May be repeated.")
@click.option("--function", metavar="NAME", help="Only executions of this function.")
@click.option("--name", help="Only executions of this name.")
@click.option("--limit", type=click.IntRange(1, 1000), default=100, show_default=True)
@click.option("--oldest-first", is_flag=True, help="Else the newest comes first.")
@on_backend
def list_(
    status: tuple[str, ...],
    function: str | None,
    name: str | None,
    limit: int,
    oldest_first: bool,
    backend: str,
    as_json: bool,
) -> None:
    """List executions."""
    with Client(backend) as client:
        found = client.list(function, statuses=status, name=name, limit=limit, oldest_first=oldest_first).items
    if as_json:
        click.echo(document.text({"DurableExecutions": [document.summary(execution) for execution in found]}))
    else:
        console().print(picture.executions(found))


@click.command()
@of_execution
@on_backend
def show(execution: str, function: str | None, backend: str, as_json: bool) -> None:
    """Show an execution and its operations."""
    with Client(backend) as client:
        handle = _found(client, backend, execution, function)
        found, operations = handle.describe(), handle.operations()
    if as_json:
        click.echo(document.text(document.description(found) | {"Operations": document.operations(operations)}))
    else:
        console().print(picture.execution(found, operations))
        for line in picture.open_callbacks(operations):
            click.echo(line)


@click.command()
@of_execution
@click.option("--no-data", is_flag=True, help="Leave inputs, results and errors out.")
@on_backend
def history(execution: str, function: str | None, no_data: bool, backend: str, as_json: bool) -> None:
    """List the events of an execution."""
    with Client(backend) as client:
        found = _found(client, backend, execution, function).history(include_data=not no_data)
    if as_json:
        click.echo(document.text({"Events": document.events(found)}))
    else:
        console().print(picture.events(found))


@click.command()
@of_execution
@click.option("--error", "message", metavar="TEXT", help="Recorded as the execution's error.")
@click.option("--error-type", metavar="NAME", help="Recorded with it.")
@on_backend
def stop(
    execution: str, function: str | None, message: str | None, error_type: str | None, backend: str, as_json: bool
) -> None:
    """End an execution as STOPPED; one that has ended stays as it is."""
    error = ErrorObject(message, error_type) if message or error_type else None
    with Client(backend) as client:
        handle = _found(client, backend, execution, function)
        ended = handle.stop(error)
        status = handle.describe().status.value
    if as_json:
        click.echo(document.text({"StopTimestamp": document.instant(ended)}))
    else:
        click.echo(f"{status} since {picture.moment(ended)}")


@click.command()
@of_execution
@click.option("--reason", metavar="TEXT", help="Recorded in the history.")
@click.option("--timeout-runs-on", is_flag=True, help="The execution timeout counts on meanwhile.")
@on_backend
def pause(
    execution: str, function: str | None, reason: str | None, timeout_runs_on: bool, backend: str, as_json: bool
) -> None:
    """
    Begin nothing more of an execution until it is resumed.

    Steps that run are finished and recorded; on Lambda what runs goes on to its next checkpoint.
    """
    with Client(backend) as client:
        handle = _found(client, backend, execution, function)
        handle.pause(reason, timeout_paused=not timeout_runs_on)
    # AWS answers this and the next one with nothing.
    click.echo(document.text({}) if as_json else "pausing")


@click.command()
@of_execution
@click.option("--reason", metavar="TEXT", help="Recorded in the history.")
@on_backend
def resume(execution: str, function: str | None, reason: str | None, backend: str, as_json: bool) -> None:
    """Let an execution go on that was paused, or left alone after too many crashes in a row."""
    with Client(backend) as client:
        _found(client, backend, execution, function).resume(reason)
    click.echo(document.text({}) if as_json else "resumed")


@click.command()
@of_execution
@on_backend
def delete(execution: str, function: str | None, backend: str, as_json: bool) -> None:
    """Remove an execution that has ended, with all its data."""
    with Client(backend) as client:
        asked = _found(client, backend, execution, function).delete()
    click.echo(document.text({"DeletionRequestTimestamp": document.instant(asked)}) if as_json else "deleting")


@click.command()
@on_backend
def purge(backend: str, as_json: bool) -> None:
    """Remove executions whose retention is over."""
    with Client(backend) as client:
        purged = client.purge()
    click.echo(document.text({"Purged": purged}) if as_json else f"{purged} purged")
