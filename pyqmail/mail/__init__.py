"""The three subjects, one: mail.  Sessions, queue, scheduling and delivery.  A stranger to tcp and supervise."""
