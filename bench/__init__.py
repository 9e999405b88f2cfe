"""Benchmarks of whole programs, ours beside their peers, interleaved in one run: `make bench`."""
