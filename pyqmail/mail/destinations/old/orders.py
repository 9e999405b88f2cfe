"""What an engine orders: tuples, the first item one of these words.

    order                              what to do
    (RESOLVE, domain)                  find candidates; then resolved() or unroutable()
    (OPEN, session, domain, candidates)  connect; then ready() or failed(), and closed() in any case
    (DELIVER, session, recipients)     start them; then result() or unsent() for each
    (CLOSE, session)                   say goodbye; closed() follows
    (REPORT, recipients, outcome)      they end with this outcome without having been tried on their own

candidates are [(host, address, port)], in the order to try.  session is None where deliveries need none.
"""

RESOLVE, OPEN, DELIVER, CLOSE, REPORT = "resolve", "open", "deliver", "close", "report"
