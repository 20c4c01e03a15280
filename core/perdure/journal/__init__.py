"""The journal: entries, and everything that follows from them. Pure."""
