"""Hooks that the server calls as it starts, becomes ready, drains and stops."""


class ServerHook:
    """Called by the server (tcp/listener/server.py); does nothing unless a kind of attendant says otherwise."""

    def begin(self, server) -> None:
        """The loop has not turned yet, the way has begun."""

    def ready(self) -> None:
        """Connections are served from now on."""

    def stopping(self) -> None:
        """No connection is accepted any more; those that are there go on."""

    def reaped(self, pid: int) -> None:
        """A child has ended, anybody's."""

    def let_go(self) -> None:
        """In a forked child: close what only the parent goes on with."""

    def close(self) -> None:
        """The server has ended."""
