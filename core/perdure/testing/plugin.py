"""pytest plugin of Perdure."""
