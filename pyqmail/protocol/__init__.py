"""Pure engines and wire formats: bytes in, events and bytes out.  No clock, no socket, no file."""
