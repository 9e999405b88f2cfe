"""Outgoing connections: names and addresses, connecting, one request and its answer."""
