"""Wheels that contain a server's programs."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path

import attrs

from perdure.adapters.ephemeral.failure import ServerNotInstalledError


@attrs.frozen
class Wheel:
    """
    A wheel with programs in it.

    Attributes:
        distribution: What pip installs.
        package: The package that comes with it; it is found, not imported.
        programs: Where in the package they may be, as patterns; the last one that is there counts.
    """

    distribution: str
    package: str
    programs: tuple[str, ...]

    def program(self, name: str) -> Path:
        """The path of a program. Raises `ServerNotInstalledError`."""
        spec = find_spec(self.package)
        for folder in spec.submodule_search_locations or () if spec else ():
            for pattern in reversed(self.programs):
                if found := sorted(Path(folder).glob(f"{pattern}/{name}")):
                    return found[-1]
        reason = "has no build of it for this machine" if spec else "is not installed"
        raise ServerNotInstalledError(
            f"{name!r} comes from {self.distribution!r}, which {reason}; install 'perdure[servers]', "
            "or name a server that runs already by its URL"
        )
