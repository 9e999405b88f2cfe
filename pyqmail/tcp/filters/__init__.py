"""Programs that stand between a connection and its program."""
