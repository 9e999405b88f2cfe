"""The wires between our own programs, and the frame that most of them share."""
