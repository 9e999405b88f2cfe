"""The two dialects between the queue manager and its spawners, both ends together."""
