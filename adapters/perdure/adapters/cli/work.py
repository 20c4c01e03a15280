"""The command that works: it loads modules, collects their durable functions and runs a worker."""

from __future__ import annotations

import importlib
import sys
import traceback
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from perdure.adapters.cli import document, log
from perdure.adapters.cli.option import on_backend
from perdure.adapters.cli.outcome import one_line
from perdure.adapters.worker import Worker
from perdure.client import Client
from perdure.durable import DurableFunction

if TYPE_CHECKING:
    from types import ModuleType

    Found = DurableFunction[Any, Any]


@click.command()
@click.argument("targets", metavar="MODULE[:NAME]...", nargs=-1, required=True)
@click.option("--concurrency", type=click.IntRange(min=1), default=32, show_default=True, help="Executions at once.")
@click.option(
    "--lease",
    type=click.FloatRange(min=0.1),
    default=30.0,
    show_default=True,
    metavar="SECONDS",
    help="After how long without a sign this process counts as dead, where nothing tells at once.",
)
@click.option("--verbose", "-v", is_flag=True, help="Log what the worker does.")
@on_backend
def worker(
    targets: tuple[str, ...], concurrency: int, lease: float, verbose: bool, backend: str, as_json: bool
) -> None:
    """
    Run durable functions until SIGTERM or SIGINT, then drain.

    MODULE is imported from the current directory; all durable functions in it are run, or that of NAME.
    """
    log.to_standard_error(verbose=verbose)
    functions = collect(targets)
    laborer = Worker(backend, functions, concurrency=concurrency, lease=lease)
    with Client(backend):
        pass  # what cannot be opened is told before it is said that the work begins
    names = [f"{function.name}:{function.version}" for function in functions]
    click.echo(document.text({"Functions": names}) if as_json else f"working on {', '.join(names)}")
    laborer.run()


def collect(targets: tuple[str, ...]) -> list[Found]:
    """The durable functions that `MODULE` and `MODULE:NAME` stand for, each once."""
    folder = str(Path.cwd())
    if folder not in sys.path:
        sys.path.insert(0, folder)
    found: list[Found] = []
    for target in targets:
        module_name, _, name = target.partition(":")
        module = _module(module_name)
        for function in [_named(module, name)] if name else _all(module):
            if not any(function is known for known in found):
                found.append(function)
    return found


def _module(name: str) -> ModuleType:
    if not all(part.isidentifier() for part in name.split(".")) or name.endswith(".py"):
        raise click.UsageError(f"{name!r} is no module name; write it as an import does, such as 'package.module'")
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as error:
        if error.name is not None and (name == error.name or name.startswith(error.name + ".")):
            raise click.UsageError(f"no module {name!r} in {str(Path.cwd())!r} or on Python's path") from None
        raise click.UsageError(f"module {name!r} needs module {error.name!r}, which is not installed") from None
    except (Exception, SystemExit) as error:  # noqa: BLE001 - the module is the user's: whatever it raises, say where
        told = f"{type(error).__name__}: {_told(error)}"
        raise click.UsageError(f"module {name!r} does not load: {told}") from None


def _told(error: BaseException) -> str:
    if isinstance(error, SyntaxError):
        return f"{error.msg} ({error.filename}:{error.lineno})"
    place = traceback.extract_tb(error.__traceback__)[-1]
    return f"{one_line(error)} ({place.filename}:{place.lineno})"


def _named(module: ModuleType, name: str) -> Found:
    found: object = module
    for part in name.split("."):
        if not hasattr(found, part):
            known = [own for own, value in vars(module).items() if isinstance(value, DurableFunction)]
            told = ", ".join(map(repr, known)) or "none"
            raise click.UsageError(f"module {module.__name__!r} has no {name!r}; its durable functions: {told}")
        found = getattr(found, part)
    if not isinstance(found, DurableFunction):
        raise click.UsageError(
            f"{name!r} of module {module.__name__!r} is {found!r}, not a function decorated with @durable_execution"
        )
    return found


def _all(module: ModuleType) -> list[Found]:
    found = [value for value in vars(module).values() if isinstance(value, DurableFunction)]
    if not found:
        raise click.UsageError(f"module {module.__name__!r} has no function decorated with @durable_execution")
    return found
