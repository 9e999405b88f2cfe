"""Keeping logs: reading without losing a line, selecting, rotating, and the time in front of lines.  multilog, tai64n"""
