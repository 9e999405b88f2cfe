"""The three subjects, two: connections.  Rules, look-ups, the listener and its serving modes."""
