"""One module for each executable, named exactly like it."""
