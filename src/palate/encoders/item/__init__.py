"""Networks that turn items into vectors."""
