"""Keeping logs (multilog, tai64n): reading without losing a line, selecting, rotating, the time in front of lines."""
