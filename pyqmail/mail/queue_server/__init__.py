"""pyqueued: one process that writes new mail into the queue for all who have some."""
