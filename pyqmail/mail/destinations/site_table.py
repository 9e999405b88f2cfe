"""The sites there are, and the organisations whose hosts they have."""

from pyqmail.mail.destinations.doors import Organisation, Site
from pyqmail.mail.destinations.sites import hosts_to_try, of_families, organisation_of, site_name

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from random import Random

    Hosts = Sequence[tuple[int, bytes, Sequence[bytes]]]


class SiteTable:
    """site_made(site) is called for a new one.  registrable as the Engine's."""

    def __init__(self, registrable: "Callable[[bytes], bytes]", random: "Random") -> None:
        self._registrable, self._random = registrable, random
        self._organisations: dict[bytes, Organisation] = {}
        self._sites: dict[bytes, Site] = {}
        self.site_made: Callable[[Site], None] = _no_site

    def sites(self) -> list[Site]:
        return list(self._sites.values())

    def organisations(self) -> list[Organisation]:
        return list(self._organisations.values())

    def site_of(self, key: bytes, hosts: "Hosts", port: int, route: bytes) -> Site:
        """Return the site of a key, a new one if there is none."""
        site = self._sites.get(key)
        if site is None:
            name = organisation_of(hosts, self._registrable) or key
            organisation = self._organisations.get(name)
            if organisation is None:
                organisation = self._organisations[name] = Organisation(name)
            shown = site_name(hosts, b"" if name == key else name, route, port)
            if name == key:
                organisation.shown = shown
            site = self._sites[key] = Site(key, shown, organisation)
            site.port, site.route = port, route
            self.site_made(site)
        return site

    def use_hosts(self, site: Site, hosts: "Hosts", families: str) -> None:
        """A site has these hosts now, and those with an address of the families are tried."""
        if site.hosts is not hosts or site.families != families:
            site.hosts, site.families = hosts, families
            site.candidates = hosts_to_try(of_families(hosts, families), self._random)


def _no_site(site: Site) -> None:
    """Nothing is remembered."""
