"""The queue on disk: taking messages in, alone or as a server, and what is a client of that.  qmail-queue"""

BOUND_CONTROLS = ["localbytes", "queueminfree"]  # what bounds.py reads: a program that hardly ever writes names them
