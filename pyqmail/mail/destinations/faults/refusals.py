"""Who refuses: one refusal is a host's or a site's; several on several of one organisation are the organisation's."""

RUN_SECONDS, RUN_REFUSALS, RUN_PLACES = 60.0, 3, 2
MAX_KEPT = 16


class OrganisationRefusals:
    """The refusals of one organisation, through one source, in the last minute.  Made at the first one."""

    __slots__ = ("_recent",)

    def __init__(self) -> None:
        self._recent: list[tuple[float, bytes]] = []

    def refused(self, place: bytes, now: float) -> bool:
        """A site or host (its key) refused one session more.  Return whether the ceiling is the organisation's.

        It is if there were 3 in 60 s, on at least 2 places.  They are forgotten then: the next ones speak of the new
        ceiling.
        """
        since = now - RUN_SECONDS
        self._recent = [one for one in self._recent if one[0] > since][1 - MAX_KEPT :]
        self._recent.append((now, place))
        if len(self._recent) < RUN_REFUSALS or len({key for _, key in self._recent}) < RUN_PLACES:
            return False
        self._recent = []
        return True

    def is_empty(self, now: float) -> bool:
        """Return whether nothing is left to remember."""
        return not self._recent or self._recent[-1][0] <= now - RUN_SECONDS
