"""The three subjects, three: services.  Supervision, logging and the chain loaders."""
