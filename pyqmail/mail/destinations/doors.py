"""Where mail waits and what it waits for: lanes, doors, sites, organisations.

A *lane* is all ready mail of one domain (on the local channel: of one address) through one source.  A *site* is the
set of hosts that would be tried for it, an *organisation* whose hosts those are.  A *door* is a site through one
source for lanes to which the same rules apply: what waits for budgets, opens sessions, and binds parcels of its lanes
to them.  What doors of one site have in common, its window above all, belongs to a budget of the site.
"""

from pyqmail.mail.destinations.faults.learned import LearnedMessages, LearnedRecipients
from pyqmail.mail.destinations.limits.budgets import NEVER
from pyqmail.mail.destinations.sites import reached_by
from pyqmail.mail.destinations.waiting.flows import LaneQueue
from pyqmail.mail.destinations.waiting.small_queue import SmallQueue
from pyqmail.mail.destinations.waiting.small_table import SmallTable

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Any

    from pyqmail.mail.destinations.faults.flow_faults import FlowFaults, SoftBlock
    from pyqmail.mail.destinations.faults.greylist import Bracket
    from pyqmail.mail.destinations.faults.refusals import OrganisationRefusals
    from pyqmail.mail.destinations.limits.budgets import Budget
    from pyqmail.mail.destinations.rules.policies import PoolMember, RecipientPolicy, SitePolicy
    from pyqmail.mail.destinations.sessions import DeliverySession
    from pyqmail.mail.destinations.sources.parts import Parts
    from pyqmail.mail.destinations.waiting.flows import FlowRows

    Hosts = Sequence[tuple[int, bytes, Sequence[bytes]]]
    Candidates = Hosts


NONE: "dict[Any, Any]" = {}  # in place of an empty dict for each of 100,000; whoever adds makes one
NO_MESSAGES, NO_RECIPIENTS = LearnedMessages(), LearnedRecipients()  # of a site that has shown nothing


class Organisation:
    """addresses: those of its hosts that were seen, at most MAX_ADDRESSES; doors: all that lead to it."""

    MAX_ADDRESSES = 100  # beyond it the built-in limit grows no more
    __slots__ = ("name", "shown", "addresses", "doors", "flow_faults", "refusals")

    def __init__(self, name: bytes) -> None:
        self.name = self.shown = name
        self.addresses = SmallTable()
        self.doors = SmallTable()
        self.flow_faults: FlowFaults | None = None
        self.refusals: dict[bytes, OrganisationRefusals] = NONE  # by source; a dict of its own once there are some

    def note_addresses(self, addresses: list[bytes]) -> None:
        """Addresses of its hosts have been seen."""
        for address in addresses:
            if len(self.addresses) < self.MAX_ADDRESSES:
                self.addresses[address] = None


class Site:
    """key and name as sites.py has them.  hosts: as the resolver had them.  candidates: those
    that are tried; empty without sessions of our own."""

    __slots__ = (
        *(
            "key",
            "name",
            "organisation",
            "hosts",
            "families",
            "candidates",
            "port",
            "route",
            "doors",
            "messages",
            "recipients",
        ),
        *("bracket", "soft_block", "last_text"),
    )

    def __init__(self, key: bytes, name: bytes, organisation: Organisation) -> None:
        self.key, self.name, self.organisation = key, name, organisation
        self.hosts: Hosts = ()
        self.families = "46"
        self.candidates: Candidates = ()
        self.port, self.route = 25, b""
        self.doors = SmallTable()  # by domain with limits of its own, id of the policy
        self.messages, self.recipients = NO_MESSAGES, NO_RECIPIENTS  # those of its own come from learned()
        self.bracket: Bracket | None = None
        self.soft_block: SoftBlock | None = None
        self.last_text = b""  # what it, or the network, last said to a session start that failed

    def learn(self) -> None:
        """Something is learned of the site: it needs what it is learned in."""
        if self.messages is NO_MESSAGES:
            self.messages, self.recipients = LearnedMessages(), LearnedRecipients()


class Lane:
    """domain is its key; number stands in p_lane of its parcels.  ready: transactions that its queue makes.

    A lane whose mail goes through sources hands it out to `parts`, lanes of one source each, and has no door; it is the
    `front` of these and of itself.
    known_until: when its hosts are to be asked for again.  left: its recipients, wherever they wait.  is_doomed: it is
    looked at whether it can be forgotten.  trouble: what the name servers last had to say for themselves.
    budgets: of a local recipient, besides the chain of the door.  has_maildirs: what was last delivered to it went to
    Maildirs alone.
    fallback: the lane that has its mail while a relay takes it; of that one, home is this, and relay (host, port).
    """

    __slots__ = (
        *("domain", "number", "source", "queue", "policy", "door", "ready", "is_listed", "is_asked"),
        *("known_until", "parts", "front", "left", "is_doomed", "trouble", "answered_at", "budgets", "has_maildirs"),
        *("fallback", "home", "relay"),
    )

    def __init__(self, domain: bytes, number: int, flows: "FlowRows") -> None:
        self.domain, self.number, self.queue = domain, number, LaneQueue(flows, number)
        self.source = b""
        self.policy: SitePolicy | RecipientPolicy | None = None
        self.door: Door | None = None
        self.ready, self.is_listed, self.is_asked = 0, False, False
        self.known_until, self.left, self.is_doomed = 0.0, 0, False
        self.trouble, self.answered_at = b"", 0.0
        self.budgets: tuple[Budget, ...] = ()
        self.has_maildirs = False
        self.parts: Parts | None = None
        self.front: Lane | None = None
        self.fallback: Lane | None = None
        self.home: Lane | None = None
        self.relay: tuple[bytes, int] | None = None

    @property
    def rule_domain(self) -> bytes:
        """The domain whose lines apply; empty: what a relay has of others is nobody's."""
        return self.domain if self.relay is None else b""

    @property
    def limited_name(self) -> bytes:
        """What a limit of each domain counts: the domain; a relay that takes the mail of others is one of its own."""
        return self.domain if self.relay is None else b"\0" + self.relay[0]

    @property
    def has_ready(self) -> bool:
        """Whether it, or one of its parts, has mail that is ready."""
        return any(one.queue.parcels for one in (self.parts.lanes.values() if self.parts is not None else (self,)))

    @property
    def site(self) -> Site | None:
        """Where its mail goes, through whatever source; None: nobody knows."""
        if self.door is not None:
            return self.door.site
        parts = self.front.parts if self.front is not None else None
        return parts.site if parts is not None and parts.is_led else None


class Door:
    """A site through one source, under one policy.  A waiter of Admission: chain, place, wants.

    lanes       those that have ready mail, in turn
    returned    parcels that came back from a connection that had carried mail: for a fresh one only
    ready       transactions that all of this makes
    connecting, working, sessions   not greeted yet; greeted and not closing; all until they are closed
    late        connecting, and kept waiting for longer than usual with no other host tried beside
    up          greeted and not gone, by address
    idle        sessions without work, longest first
    site_budget carries the window; budgets: the chain without unproven, shared and total
    attempts    session starts since the last greeting
    last_code   of the last session start that failed
    ended_at    when a server last ended a session that had worked, for no limit that is known; ended_after: messages
    lane_count  lanes that lead here; own_domain: the one it is for alone, if that has limits of its own
    hollow      sessions that greeted and ended before any message was answered, running
    blocks      how often it was refused as blocked, running
    is_held     a rule, a soft block or the like forbids sessions now
    failed_at   when a session start last failed on every host, unless one has greeted since; NEVER
    fallen      lanes of which a relay has the mail: it goes on trying for them; None: of none
    open_hosts  candidates of the site without the addresses that a rule holds; None: it holds none
    """

    __slots__ = (
        *("site", "source", "policy", "budgets", "site_budget", "chain", "place", "lanes", "returned", "ready"),
        *(
            "connecting",
            "late",
            "working",
            "sessions",
            "up",
            "idle",
            "choice",
            "attempts",
            "hedged",
            "started",
            "last_code",
        ),
        *("is_held", "parcels_each", "ended_at", "ended_after", "blocks", "lane_count", "hollow", "own_domain"),
        *("open_hosts", "failed_at", "fallen"),
    )

    def __init__(self, site: Site, source: "PoolMember | None", policy: "SitePolicy | RecipientPolicy") -> None:
        self.site, self.source, self.policy = site, source, policy
        self.budgets: tuple[Budget, ...] = ()
        self.site_budget: Budget | None = None
        self.chain: tuple[Budget, ...] = ()
        self.place: Budget | tuple[Budget, ...] | None = None
        self.lanes = SmallQueue()
        self.returned = SmallQueue()
        self.ready = self.connecting = self.late = self.working = self.sessions = 0
        self.up: dict[bytes, int] = NONE
        self.idle: dict[DeliverySession, None] = NONE
        self.choice: tuple[bytes, bytes] | None = None
        self.attempts = self.hedged = self.started = self.last_code = 0
        self.is_held = False
        self.parcels_each = getattr(policy, "parcels", 1)
        self.ended_at, self.ended_after = NEVER, 0
        self.blocks, self.lane_count, self.own_domain = 0, 0, b""
        self.hollow = 0
        self.open_hosts: Candidates | None = None
        self.failed_at = NEVER
        self.fallen: dict[Lane, None] | None = None

    @property
    def candidates(self) -> "Candidates":
        """The hosts that its sessions may try."""
        hosts = self.site.candidates if self.open_hosts is None else self.open_hosts
        return hosts if self.source is None else reached_by(hosts, self.source.address)

    @property
    def address(self) -> bytes:
        """The address of the source, empty for none."""
        return self.source.address if self.source is not None else b""

    @property
    def wants(self) -> bool:
        """Whether it would open one more session: its connecting ones will not take up what is ready."""
        if self.ready <= self.connecting - self.late or self.is_held:
            return bool(self.fallen) and not self.ready and not self.sessions and not self.is_held
        each = self.parcels_each
        return each == 1 or self.sessions < -(-(self.ready + self.sessions) // each)

    def count(self, lane: Lane, most: int) -> None:
        """Take note of how much is ready in a lane of this door."""
        queue = lane.queue
        ready = queue.parcels if queue.recipients == queue.parcels else queue.transactions(most)
        if ready != lane.ready:
            self.ready += ready - lane.ready
            lane.ready = ready
        if ready and not lane.is_listed:
            lane.is_listed = True
            self.lanes.append(lane)
