"""The command that tells who works."""

from __future__ import annotations

import click

from perdure.adapters.cli import document, picture
from perdure.adapters.cli.option import console, on_backend
from perdure.client import Client


@click.command()
@on_backend
def workers(backend: str, as_json: bool) -> None:
    """List the workers that live, the age of their leases, and the executions they hold."""
    with Client(backend) as client:
        found = client.workers()
    if as_json:
        click.echo(document.text({"Workers": [document.worker(worker) for worker in found]}))
    else:
        console().print(picture.workers(found))
