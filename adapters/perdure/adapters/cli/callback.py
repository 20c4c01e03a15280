"""The commands that complete callbacks."""

from __future__ import annotations

import click

from perdure.adapters.cli import document
from perdure.adapters.cli.option import content, on_backend
from perdure.client import Client
from perdure.model import ErrorObject


@click.group(no_args_is_help=False)
def callback() -> None:
    """Complete callbacks that executions wait for."""


@callback.command()
@click.argument("callback_id", metavar="ID")
@click.option("--result", metavar="TEXT|@FILE", help="What the workflow gets, as it is; JSON by custom.")
@on_backend
def success(callback_id: str, result: str | None, backend: str, as_json: bool) -> None:
    """Tell that what was asked for has been done."""
    with Client(backend) as client:
        client.send_callback_success(callback_id, None if result is None else content(result))
    _told("succeeded", as_json)


@callback.command()
@click.argument("callback_id", metavar="ID")
@click.option("--error", "message", metavar="TEXT", help="What went wrong.")
@click.option("--error-type", metavar="NAME", help="Which kind of error it is.")
@click.option("--error-data", metavar="TEXT|@FILE", help="Further data.")
@on_backend
def failure(
    callback_id: str,
    message: str | None,
    error_type: str | None,
    error_data: str | None,
    backend: str,
    as_json: bool,
) -> None:
    """Tell that what was asked for will not be done."""
    data = None if error_data is None else content(error_data)
    with Client(backend) as client:
        client.send_callback_failure(callback_id, ErrorObject(message, error_type, data))
    _told("failed", as_json)


@callback.command()
@click.argument("callback_id", metavar="ID")
@on_backend
def heartbeat(callback_id: str, backend: str, as_json: bool) -> None:
    """Tell that it is being worked on, which restarts the heartbeat timeout."""
    with Client(backend) as client:
        client.send_callback_heartbeat(callback_id)
    _told("alive", as_json)


def _told(what: str, as_json: bool) -> None:
    # AWS answers all three with an empty object.
    click.echo(document.text({}) if as_json else f"callback {what}")
