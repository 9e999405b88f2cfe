"""Which lines a log wants: the patterns of multilog's + and - actions.

A pattern is matched against a line without its LF, and must use it up.  A byte matches itself.  A star at the end
matches everything; a star before a byte c skips to the first c and never comes back for a later one; c may itself
be a star, which then goes on from the star it found in the line.
"""


def matcher(pattern: bytes):
    """Return a function that takes a line and returns something true if pattern matches it."""
    stem, star, beyond = pattern.partition(b"*")
    if not star:
        return pattern.__eq__
    if not beyond:
        return lambda line: line.startswith(stem)
    import re  # here: the usual patterns do not need it

    # [^c]* before c cannot match in two ways, so that the expression does not backtrack either.
    pieces = []
    for at, byte in enumerate(pattern):
        following = pattern[at + 1 : at + 2]
        if byte != ord("*"):
            pieces.append(re.escape(bytes([byte])))
        elif not following:
            pieces.append(b".*")
        else:
            pieces.append(b"[^" + re.escape(following) + b"]*" + (b"(?=\\*)" if following == b"*" else b""))
    return re.compile(b"".join(pieces), re.DOTALL).fullmatch


class LineChoice:
    """A + or - action: which of the lines are selected after it."""

    def __init__(self, pattern: bytes, wanted: bool) -> None:
        self.wanted = wanted
        self.always = pattern == b"*"
        self._matches = matcher(pattern)

    def choose(self, lines: list[bytes], chosen: list[bool] | None) -> list[bool] | None:
        """Return, for each line, whether it is selected after this action.

        chosen: the same before it; None means all.  Only a line that this action could change is matched.
        """
        if self.always:
            return None if self.wanted else [False] * len(lines)
        matches = self._matches
        if self.wanted:
            if chosen is None:
                return None
            return [was or bool(matches(line)) for was, line in zip(chosen, lines, strict=True)]
        if chosen is None:
            return [not matches(line) for line in lines]
        return [was and not matches(line) for was, line in zip(chosen, lines, strict=True)]
