"""One module per operation, each a generator that yields commands and does no I/O."""
