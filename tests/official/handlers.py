"""The handlers of one package: which there are, and which functions they make."""

from __future__ import annotations

from importlib import import_module
from pkgutil import iter_modules
from typing import TYPE_CHECKING, Any

import attrs

from tests.official.function import ROOT, Function
from tests.official.names import HANDLERS, function_name

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping
    from pathlib import Path

    Handler = Callable[[Any, Any], Any]

HANDLER = "tests.official.dispatch.handle"
POOL = "official"
HEAD_START = 1.0
"""Seconds that the caller's invocation has to end before what it invokes begins: the suite expects this order."""


class MissingHandlersError(Exception):
    """Some requirements have no handler, so that a run would prove less than it seems to."""


@attrs.frozen
class Catalogue:
    """What a package of handlers offers."""

    package: str
    handlers: Mapping[str, Handler]
    """Handlers by the names of their functions."""
    targets: tuple[str, ...]
    """The names of those that others invoke."""

    @classmethod
    def of(cls, package: str) -> Catalogue:
        """
        Read the dictionaries `REQUIREMENTS` and `TARGETS` of all modules of a package.

        Args:
            package: Such as `tests.official.blocking`.
        """
        modules = [import_module(f"{package}.{one.name}") for one in iter_modules(import_module(package).__path__)]
        found: dict[str, Handler] = {}
        targets: dict[str, Handler] = {}
        for module in modules:
            for requirement, handler in getattr(module, "REQUIREMENTS", {}).items():
                if found.setdefault(function_name(requirement), handler) is not handler:
                    raise ValueError(f"requirement {requirement!r} has a second handler in {module.__name__}")
            targets.update(getattr(module, "TARGETS", {}))
        return cls(package, {**found, **targets}, tuple(targets))

    def expect(self, requirements: Iterable[str]) -> None:
        """
        Make sure that each of these requirements has a handler.

        Raises:
            MissingHandlersError: Some have none.
        """
        if missing := [one for one in requirements if function_name(one) not in self.handlers]:
            raise MissingHandlersError(f"{self.package} has no handlers for {', '.join(missing)}")

    def functions(
        self, requirements: Iterable[str], *, code: Path = ROOT, environment: Mapping[str, str] | None = None
    ) -> list[Function]:
        """
        The functions of some requirements and the targets, all in one pool of processes.

        Args:
            requirements: Their ids.
            code: The folder that the package is imported from.
            environment: Environment variables for all of them.
        """
        variables = {**(environment or {}), HANDLERS: self.package}
        latencies = {**dict.fromkeys(map(function_name, requirements), 0.0), **dict.fromkeys(self.targets, HEAD_START)}
        return [
            Function(name, HANDLER, code=code, pool=POOL, latency=latency, environment=variables)
            for name, latency in latencies.items()
        ]
