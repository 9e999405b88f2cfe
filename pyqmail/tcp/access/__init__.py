"""Decide whether a connection is served, and describe it to its program."""
