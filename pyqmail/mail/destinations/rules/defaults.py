"""What holds where no rule says otherwise; the one place for each of these figures.

BUILT_IN is read as rule text whose lines come after all that is written.  An organisation's own limit grows with the
machines that it shows, so it is a function.  SHIPPED and SHIPPED_RESPONSES are what a new home gets as
control/destinations and control/responses; the latter holds, too, where there is no such file.
"""

BUILT_IN = b""":c=10,k=300/m~20,c=100/net,i=2,f=1,n=100,m=50,p=1,idle=2s,by=message,dead=3,grey=330s,v=46,learn=yes
rcpt=:c=2
"""
FEWEST_OF_ORGANISATION, MOST_OF_ORGANISATION, FOR_EACH_ADDRESS = 10, 200, 2


def organisation_limit(addresses: int) -> int:
    """Return how many sessions at once an organisation gets from each source if nobody wrote a limit.

    addresses: how many addresses of its MX hosts have been seen.
    """
    return min(max(FOR_EACH_ADDRESS * addresses, FEWEST_OF_ORGANISATION), MOST_OF_ORGANISATION)


SHIPPED = b"""# How much each destination gets: see pydestrules(8).
"""
SHIPPED_RESPONSES = b"""# What words in a server's reply mean: see pydestrules(8).
"""
