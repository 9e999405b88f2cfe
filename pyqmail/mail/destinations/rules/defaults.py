"""What holds where no rule says otherwise; the one place for each of these figures.

BUILT_IN is read as rule text whose lines come after all that is written.  An organisation's own limit grows with the
machines that it shows, so it is a function.
"""

BUILT_IN = b""":c=10,i=2,n=100,m=50,k=300/m~20,c=100/net
rcpt=:c=2
"""
FEWEST_OF_ORGANISATION, MOST_OF_ORGANISATION, FOR_EACH_ADDRESS = 10, 200, 2


def organisation_limit(addresses: int) -> int:
    """Return how many sessions at once an organisation gets from each source if nobody wrote a limit.

    addresses: how many addresses of its MX hosts have been seen.
    """
    return min(max(FOR_EACH_ADDRESS * addresses, FEWEST_OF_ORGANISATION), MOST_OF_ORGANISATION)
