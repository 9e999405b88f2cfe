"""qmail, ucspi-tcp and daemontools again: small executables that talk over pipes and descriptors."""
