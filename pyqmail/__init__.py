"""qmail, ucspi-tcp and daemontools again: small executables that talk over pipes and descriptors."""

__version__ = "0.1.0"
