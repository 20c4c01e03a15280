"""The replay kernel: runs workflow code over recorded operations."""
