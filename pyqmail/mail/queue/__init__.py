"""The queue on disk: taking messages in, alone or as a server, and what is a client of that.  qmail-queue"""
