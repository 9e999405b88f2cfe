"""Hooks that the server calls as it starts, becomes ready, drains and stops."""


class ServerHook:
    """Called by the server (tcp/listener/server.py); each method does nothing unless a subclass says otherwise."""

    def started(self, server) -> None:
        """The serving mode has started; the loop has not turned yet."""

    def ready(self) -> None:
        """Connections are served from now on."""

    def draining(self) -> None:
        """No more connections are accepted; those that there are go on."""

    def child_ended(self, pid: int) -> None:
        """A child of the server has ended, perhaps one of another part."""

    def close_in_child(self) -> None:
        """In a forked child: close what only the parent goes on with."""

    def close(self) -> None:
        """The server has ended."""
