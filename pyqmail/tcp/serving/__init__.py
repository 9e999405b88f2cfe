"""Serving modes: how a program is run for connections, by workers that stay or a process for each."""
