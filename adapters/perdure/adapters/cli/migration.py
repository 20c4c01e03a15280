"""The command that brings a store's schema to this version."""

from __future__ import annotations

import asyncio

import click

from perdure.adapters.cli import document
from perdure.adapters.cli.option import on_backend
from perdure.adapters.cli.outcome import ExitCode
from perdure.storage import Migratory, mask, open_backend


@click.command()
@click.option("--check", is_flag=True, help="Change nothing; the exit code is 1 if any migration is missing.")
@on_backend
def migrate(check: bool, backend: str, as_json: bool) -> ExitCode:
    """
    Bring the store to the schema of this version.

    Stores do it by themselves when they are opened, unless they are told not to, as one does where only a deployment
    may change a schema.
    """
    store = open_backend(backend).store
    names: list[str] = []
    if isinstance(store, Migratory):
        names = list(asyncio.run(store.missing_migrations() if check else store.migrate()))
    if as_json:
        click.echo(document.text({"Missing" if check else "Applied": names}))
    else:
        for name in names:
            click.echo(f"{'missing' if check else 'applied'}: {name}")
        if not names:
            click.echo(f"{mask(backend)} is up to date")
    return ExitCode.ENDED_OTHERWISE if check and names else ExitCode.OK
