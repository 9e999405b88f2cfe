"""The listener: sockets, accepting, status, readiness, proxies' clients."""
