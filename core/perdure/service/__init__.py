"""What AWS runs as a service, over any store."""
