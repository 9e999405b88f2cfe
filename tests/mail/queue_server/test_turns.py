"""Turns: bounds for each uid and for all, and nobody left out."""

from pyqmail.mail.queue_server.turns import Turn, Turns


class Ask:
    def __init__(self, turns):
        self._turns, self.order = turns, []

    def __call__(self, uid, name):
        turn = Turn(self._turns, uid, lambda: self.order.append(name))
        turn.ask()
        return turn


def test_bounds_of_one_and_of_all():
    turns = Turns(2, 3)
    ask = Ask(turns)
    first = [ask(1, f"a{n}") for n in range(4)]
    others = [ask(2, f"b{n}") for n in range(3)]
    assert ask.order == ["a0", "a1", "b0"]
    assert (turns.waiting(1), turns.waiting(2), turns.waiting(3), turns.waiting()) == (2, 2, 0, 4)
    first[0].give_back()
    assert len(ask.order) == 4
    others[2].give_back()  # before it came
    for turn in (first[1], others[0], *first[2:], others[1]):
        turn.give_back()
        turn.give_back() if turn.is_taken else None
    assert sorted(ask.order) == ["a0", "a1", "a2", "a3", "b0", "b1"]
    assert turns.waiting() == 0


def test_uids_come_one_after_the_other():
    turns = Turns(20, 1)
    ask = Ask(turns)
    held = [ask(1, "first")] + [ask(uid, uid) for uid in (1, 1, 1, 2, 2, 3)]
    while any(turn.is_taken for turn in held):
        next(turn for turn in held if turn.is_taken).give_back()
    assert ask.order == ["first", 1, 2, 3, 1, 2, 1]


def test_what_is_given_back_at_once_does_not_nest():
    turns = Turns(1, 1)
    taken = []

    def work(turn):
        taken.append(turn)
        turn.give_back()

    holder = Turn(turns, 1, lambda: None)
    holder.ask()
    for _ in range(5000):
        turn = Turn(turns, 2, None)
        turn.work = lambda turn=turn: work(turn)
        turn.ask()
    holder.give_back()
    assert len(taken) == 5000
