"""When a message is tried again.

By default (`try=q`) the retry time depends on the age alone, to the second.  Source: nextretry() of qmail-send
A `try=` that somebody wrote counts from the end of the attempt, by the number of attempts, and is spread: what was
deferred together does not come back together.
"""

import math

TYPE_CHECKING = False
if TYPE_CHECKING:
    from random import Random

    from pyqmail.mail.destinations.rules.policies import Retry

LOCAL_CONSTANT, REMOTE_CONSTANT = 10, 20
TROUBLE_SECONDS = 123  # after a system error on one message
SPREAD = 0.05  # of a written delay, later only


def retry_time(birth: int, now: int, constant: int) -> int:
    """Return when an attempt that starts now is followed by the next; all in Unix seconds.

    The square root has 16 bits, as the original's; a birth in the future counts as age 0.
    """
    root = min(math.isqrt(max(0, now - birth)), 65535)
    return birth + (root + constant) ** 2


def next_date(retry: "Retry | None", birth: int, tries: int, date: float, constant: int, random: "Random") -> float:
    """Return when a recipient is tried again whose attempt number `tries` has ended at `date`, in Unix seconds.

    retry is a written `try=`; None: q, with the constant of the channel.  Never before date.
    """
    if retry is None:
        return retry_time(birth, int(date), constant)
    return date + retry.delay(tries) * (1 + SPREAD * random.random())
