"""The network between us and the servers, and names: an uplink that fails, a source that is filtered, a resolver."""

from pyqmail.mail.destinations.outcome import LOOKUP, Outcome

ANSWERS, NO_ANSWER, SERVER_FAILURE, NO_SUCH_DOMAIN = "answers", "no answer", "server failure", "no such domain"


class Network:
    """is_up: our own uplink.  filtered: local addresses whose packets reach nobody; absent: those no interface has."""

    def __init__(self):
        self.is_up, self.filtered, self.absent, self.back_at = True, {}, {}, None

    def reaches(self, source: bytes) -> bool:
        return self.is_up and source not in self.filtered


class Zone:
    """What the name servers of a domain say.  hosts: [(preference, name, [addresses])]; ttl seconds."""

    def __init__(self, hosts, ttl=3600, kind=ANSWERS):
        self.hosts, self.ttl, self.kind = hosts, ttl, kind


class NameService:
    """The resolver process: it answers after latency seconds, or tells after patience seconds that nobody did."""

    def __init__(self, latency=0.02, patience=20.0):
        self.zones, self.latency, self.patience = {}, latency, patience
        self.routes = {}  # domain -> relay, as host:port, host an address
        self.is_silent, self.questions, self.asked_at = False, 0, []

    def ask(self, domain: bytes, route=None):
        """Return (seconds, event name, arguments, words): which event of the engine answers, and when.

        route: (relay, port) that takes the domain's mail; the relay's own zone says where it is, as the only host.
        """
        self.questions += 1
        if route is not None and route[0]:
            return self._ask_relay(domain, *route)
        if route is not None:
            seconds, event, arguments, words = self.ask(domain)
            return seconds, event, arguments, words if event != "resolved" else words | {"port": route[1]}
        if domain in self.routes or domain[:1] == b"[":
            relay = self.routes.get(domain, b"")
            host, _, port = relay.partition(b":")
            host = host or domain[1:-1]
            return 0.0, "resolved", (domain, [(0, host, [host])], 60, False), {"port": int(port or 25), "route": relay}
        zone = self.zones.get(domain)
        if self.is_silent or (zone and zone.kind == NO_ANSWER):
            return self.patience, "trouble", (domain, b"timeout"), {}
        if zone is None or zone.kind == NO_SUCH_DOMAIN:
            report = b"DSorry, I couldn't find any host named " + domain + b". (#5.1.2)\n"
            return self.latency, "nowhere", (domain, Outcome(report, LOOKUP)), {}
        if zone.kind == SERVER_FAILURE:
            return self.latency, "trouble", (domain, b"SERVFAIL"), {}
        return self.latency, "resolved", (domain, zone.hosts, zone.ttl, False), {}

    def _ask_relay(self, domain, relay, port):
        zone, words = self.zones.get(relay), {"port": port, "route": relay}
        if zone is None:
            return 0.0, "resolved", (domain, [(0, relay, [relay])], 60, False), words
        if self.is_silent or zone.kind != ANSWERS:
            return self.patience, "trouble", (domain, b"timeout"), {}
        hosts = [(0, relay, [address for _, _, some in zone.hosts for address in some])]
        return self.latency, "resolved", (domain, hosts, zone.ttl, False), words
