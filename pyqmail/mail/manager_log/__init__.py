"""The queue manager's log: whole lines to a reader that may be slow or gone, and when a status line is due."""
