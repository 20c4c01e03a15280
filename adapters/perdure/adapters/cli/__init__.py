"""The command line, `perdure`; `perdure --help` tells what it does and what its exit codes mean."""

from __future__ import annotations

import sys


def main() -> None:
    """Run the command line on this process's arguments, and exit."""
    try:
        from perdure.adapters.cli.shell import run  # noqa: PLC0415 - click and rich come with an extra
    except ModuleNotFoundError as error:
        if error.name is None or error.name.partition(".")[0] not in {"click", "rich"}:
            raise
        sys.exit(f"perdure: the command line needs {error.name!r}; install 'perdure[cli]'")
    sys.exit(run())
