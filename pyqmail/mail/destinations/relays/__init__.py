"""Mail that goes to a relay and not to its hosts: routes, and what takes it when the hosts fail."""
