"""Whether a connection is served, and what its program is told about it."""
