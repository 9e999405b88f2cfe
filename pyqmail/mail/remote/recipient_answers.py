"""What a server's answers to RCPT mean for each recipient, and for how many are sent together.

An answer may be about the recipient, about how many recipients a transaction has, or about what the connection has
carried before.  A recipient of the first kind has its outcome; one of the second kind comes in another transaction, one
of the third over another connection.
"""

from pyqmail.protocol.smtp.reply import LEAVING
from pyqmail.protocol.smtp.report import DATA, RECIPIENT_BREAK, RECIPIENTS, SENDER, recipient_record

_TOO_MANY = (452, 552)  # RFC 5321 section 4.5.3.1.10: if another recipient was accepted, the limit is the transaction's
_TOO_MANY_STATUS = (b"4.5.3", b"5.5.3")  # RFC 3463 section 3.6: too many recipients, whatever the code
_FEWER = 4  # a server that dies over several recipients gets so many times fewer together at the next try
_OUT_OF_ORDER = 503  # the server has another idea of what was said before


class TransactionResult:
    """How a transaction ended, as qmail-remote's records without their NUL.

    recipients   one for each recipient: its record, None if the server was never asked or never answered
    message      the record of the message
    postponed    positions of recipients that are for another transaction: this one had too many
    returned     positions of recipients that are for another connection: what was said is said of this one, which has
                 carried mail before, or bears fewer recipients than were tried
    is_untouched True if the server was gone before it took notice
    carried      messages that the connection had taken before
    accepted     0, or how many recipients were accepted before the postponed ones were too many
    """

    __slots__ = ("recipients", "message", "postponed", "returned", "is_untouched", "carried", "accepted")

    def __init__(self, recipients, message, postponed=(), returned=(), is_untouched=False):
        self.recipients, self.message, self.is_untouched = recipients, message, is_untouched
        self.postponed, self.returned = postponed, returned
        self.carried = self.accepted = 0


class SortedRecipients:
    """The recipients of one transaction, sorted by what the server answered.

    records          one for each recipient, as in TransactionResult
    undecided        positions of those that were accepted, or not answered
    postponed        of those that were too many for this transaction
    later            of those whose refusal another connection might not meet
    doubted          (code, text) of the last such refusal, None without one
    is_passed_over   True if one was accepted after another that was too many

    engine is the client's after the transaction.  may_doubt: a 5xx may be about what the connection has carried before.
    deferral_codes: those that fresh connections to this server had for recipients (Habits); they are believed.
    """

    __slots__ = (
        *("records", "undecided", "postponed", "later", "doubted", "is_passed_over", "has_accepted"),
        *("_address", "_engine", "_last", "_believed"),
    )

    def __init__(self, address: bytes, engine, recipients: list[bytes], may_doubt: bool, deferral_codes=()) -> None:
        self.records: list[bytes | None] = []
        self.undecided: list[int] = []
        self.postponed: list[int] = []
        self.later: list[int] = []
        self.is_passed_over = self.has_accepted = False
        self._address, self._engine, self._last, self._believed = address, engine, -1, deferral_codes
        self.doubted = None
        answers = iter(engine.answers)
        for position, recipient in enumerate(recipients):
            if has_break(recipient):
                self.records.append(RECIPIENT_BREAK)
            else:
                code, text = next(answers, (None, b""))
                self._add(position, code, text, may_doubt)

    def _add(self, position, code, text, may_doubt):
        self.records.append(self._record(code, text))
        if code is None:
            self.undecided.append(position)
            return
        self._last = position  # that was answered
        if code // 100 == 2:
            self.undecided.append(position)
            self.has_accepted = True
            self.is_passed_over = self.is_passed_over or bool(self.postponed)
        elif self.has_accepted and is_too_many(code, text):
            self.postponed.append(position)
        elif self._may_be_of_connection(code, text, may_doubt):
            self.later.append(position)
            self.doubted = code, text

    def _may_be_of_connection(self, code, text, may_doubt):
        """Return whether a refusal of a recipient may be about what the connection has carried before."""
        if code // 100 != 5:
            return code not in self._believed or is_too_many(code, text)
        return may_doubt and _may_be_of_connection(code, text)

    def _record(self, code, text):
        """Return the record of a recipient; code is None if it was not answered."""
        refusal = self._engine.refusal
        if code is not None:
            return recipient_record(self._address, code, text)
        if refusal is not None and refusal[0] == RECIPIENTS:
            # the server left at the first ones: those who were not asked must not fail for it
            return recipient_record(self._address, *refusal[1:])
        return None

    def postpone_last(self) -> None:
        """If the server left at a recipient after it had accepted another, that one was too many."""
        answers = self._engine.answers
        if self.has_accepted and answers[-1][0] == LEAVING and self._last in self.later:
            self.later.remove(self._last)
            self.postponed.append(self._last)

    def returned(self, is_lost: bool, was_used: bool, is_only_try: bool) -> set[int]:
        """Return the positions of those whom another connection may get further with."""
        engine, refusal = self._engine, self._engine.refusal
        everybody = {*self.undecided, *self.later, *self.postponed}
        is_leaving = is_lost or (refusal is not None and refusal[1] == LEAVING)
        if is_lost and not engine.has_begun and not is_only_try:
            return everybody  # it never answered: no mail is to blame
        if is_leaving and (self.postponed or (is_only_try and engine.is_batch_lost)):
            return everybody
        if was_used and (is_leaving or (refusal is not None and refusal[0] in (SENDER, DATA))):
            return everybody
        return set(self.later) if was_used else set()


class RecipientLimit:
    """How many recipients a server takes in one transaction, as far as a connection to it has seen.

    count: None if no limit is known.
    """

    __slots__ = ("count", "_is_certain")

    def __init__(self, count: int | None) -> None:
        self.count, self._is_certain = count, True

    def learn(self, habits, answers, has_postponed: bool, is_over: bool) -> None:
        """Keep what a transaction tells of it; answers are the engine's, is_over: this connection brings no more."""
        accepted = sum(code // 100 == 2 for code, _ in answers)
        if has_postponed:
            self.count, self._is_certain = accepted, is_over
        elif self._is_certain or not answers:
            return
        elif accepted:
            self._is_certain = True
        else:  # alone they are refused, too: they were not too many
            self.count, self._is_certain = habits.recipient_limit, True
            return
        if self._is_certain:
            habits.note(recipient_limit=self.count)

    def lower(self, habits, tried: int) -> None:
        """Have fewer than were tried together at the next time: one of them alone may be welcome."""
        if tried > 1:
            self.count, self._is_certain = max(1, tried // _FEWER), True
            habits.note(recipient_limit=self.count)


def is_too_many(code: int, text: bytes) -> bool:
    """Return whether an answer to RCPT speaks of how many recipients there are, not of this one."""
    return code in _TOO_MANY or text[4:10].rstrip() in _TOO_MANY_STATUS


def deferral_codes(answers) -> set[int]:
    """Return the codes that answers to RCPT put recipients off with, neither for their number nor in leaving."""
    return {code for code, text in answers if code // 100 == 4 and code != LEAVING and not is_too_many(code, text)}


def _may_be_of_connection(code, text):
    """Return whether a 5xx to RCPT may be about what the connection has carried before; 550 is about the recipient."""
    if text[4:8] in (b"5.1.", b"5.2."):
        return False  # RFC 3463 sections 3.2 and 3.3: the address; the mailbox, one that is full for instance
    return code == _OUT_OF_ORDER or is_too_many(code, text)


def has_break(address: bytes) -> bool:
    """Return whether an address has a line break, which would be a command of its own."""
    return b"\n" in address or b"\r" in address
