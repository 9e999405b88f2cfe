"""The three subjects, one: mail.  A stranger to tcp and supervise.

Its rooms: queue, sending, local, remote, incoming.  What two of them share stands here.
"""
