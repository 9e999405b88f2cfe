"""The three subjects, three: services.  Supervision and the chain loaders, and in a room of their own the logs."""
