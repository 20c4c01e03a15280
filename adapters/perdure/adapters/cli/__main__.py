"""`python -m perdure.adapters.cli` is `perdure`."""

from perdure.adapters.cli import main

main()
