"""The command line, `perdure`; `perdure --help` tells what it does and what its exit codes mean."""

from __future__ import annotations

import sys

from perdure.adapters.cli.outcome import ExitCode

EXTRA = {"click", "rich"}


def main() -> None:
    """Run the command line on this process's arguments, and exit."""
    try:
        from perdure.adapters.cli.shell import run  # noqa: PLC0415 - the extra may not be installed
    except ModuleNotFoundError as error:
        if error.name is None or error.name.partition(".")[0] not in EXTRA:
            raise
        sys.stderr.write(f"perdure: the command line needs {error.name!r}; install 'perdure[cli]'\n")
        sys.exit(ExitCode.USAGE)
    sys.exit(run())
