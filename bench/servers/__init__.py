"""Staged SMTP servers that behave as providers do, and a name server for them: for tests, `make bench` and the tour.

    python -m bench.servers LINE...        serves; a line is MODEL [each] [KEY=VALUE ...] ADDRESS...

Each server counts its own sessions, and is the judge: what a test reads is the server's maximum, not our counters.

    servers.Network      a network of its own, in which every address of 198.18.0.0/15 is there (network.py)
    servers.Staged       a process with such servers, asked for its counts over pipes (staged.py)
    MODELS               what they do (pyqmail/load_tools/server_models.py)
    Names                MX and addresses of generated domains (names.py)
"""
