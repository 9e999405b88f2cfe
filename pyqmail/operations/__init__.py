"""What wires several subjects and is no executable: a private home, systemd's units, manual pages."""

LABEL = "pyqmail"  # at the head of its lines
