"""Connections that we make: names and addresses, connecting, one question and its answer."""
