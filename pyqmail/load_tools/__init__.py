"""Load for mail servers, and servers that take it: what pysmtpsource, pysmtpsink, pyqmqpsource and pyqmqpsink share.

A source is a LoadRun (load_run.py): slots, each of which holds one conversation after the other.  A conversation is a
generator that yields what to send and is sent the replies (smtp_source.py, qmqp_source.py).  A sink is an Acceptor
(acceptor.py) of sessions, which are engines: bytes in, bytes out (smtp_sink.py, qmqp_sink.py).  What a server does
beside taking mail is a model (server_models.py).  What was counted is a Tally (tally.py); those of several processes
become one (processes.py).
"""
