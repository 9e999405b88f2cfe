"""The limits of a client over all its sessions: connections at once and within a time, messages, recipients.

The counts are the listener's, for all workers together; a session has them through its peer's client_meter
(tcp/serving/client_meter.py).  What is counted, once for each, before anything else is looked at:

    clientrate         the start of a session
    clientmessages     MAIL, as soon as it is received in its place
    clientrecipients   RCPT, likewise

So what is refused for another reason counts, too, as in Postfix; what is refused by the limit itself does not.

Without a meter, in a process of its own, nobody counts: then these limits do not hold, which is said for each that
somebody has set.
"""

from pyqmail.mail.smtpd.client_limits import AT_ONCE, RATES

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    from pyqmail.mail.smtpd.client_limits import ClientLimits

TOO_MANY_CONNECTIONS = b"421 too many connections (#4.7.0)\r\n"
TOO_MUCH_MAIL = b"450 too much mail (#4.7.1)\r\n"
TOO_MANY_RECIPIENTS = b"450 too many recipients (#4.7.1)\r\n"


class LimitsOverTime:
    """What one session's client may still do.  meter: the client_meter of its peer."""

    __slots__ = ("_limits", "_meter")

    def __init__(self, limits: "ClientLimits", meter: "Any") -> None:
        self._limits, self._meter = limits, meter

    def complain(self, complain: "Callable[[str], object]") -> None:
        """Call complain(text) for each limit that somebody has set and nobody counts."""
        if self._meter is not None:
            return
        limits = self._limits
        at_once = [name for name in AT_ONCE if name in limits.is_said and getattr(limits, name)]
        for name in (*at_once, *(name for name in RATES if getattr(limits, name)[0])):
            complain(f"{name} does not hold: only a worker of pytcpserver counts clients")

    async def excess(self) -> str:
        """Return the limit that forbids this session, empty if it may begin; it counts if it may."""
        limits, meter = self._limits, self._meter
        if meter is None:
            return ""
        for name in AT_ONCE:
            is_meant = name in limits.is_said or name not in meter.limited_before
            if is_meant and 0 < getattr(limits, name) < meter.connections[name]:
                meter.note_refusal(name)
                return name
        return "" if await self._admits("clientrate") else "clientrate"

    async def admits_message(self) -> bool:
        """Return whether one more message may begin; it counts if it may."""
        return await self._admits("clientmessages")

    async def admits_recipient(self) -> bool:
        """Return whether one more recipient may be named; it counts if it may."""
        return await self._admits("clientrecipients")

    async def _admits(self, name):
        limit, seconds = getattr(self._limits, name)
        return not limit or self._meter is None or await self._meter.admit(name, limit, seconds)
