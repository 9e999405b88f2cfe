"""A model world around the scheduler: servers, a network, mail and a virtual clock; no socket, no waiting."""
