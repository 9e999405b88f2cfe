"""SmallQueue is a deque, however few are in it."""

from collections import deque

from hypothesis import given
from hypothesis import strategies as st

from pyqmail.mail.destinations.waiting.small_queue import SmallQueue

STEPS = st.lists(st.one_of(st.integers(0, 5), st.sampled_from(["take", "remove", "extend"])))


@given(STEPS)
def test_it_does_what_a_deque_does(steps):
    queue, model = SmallQueue(), deque()
    for step in steps:
        if step == "extend":
            queue.extend([7, 8])
            model.extend([7, 8])
        elif isinstance(step, int):
            queue.append(step)
            model.append(step)
        elif model and step == "take":
            assert queue.popleft() == model.popleft()
        elif model:
            one = model[-1]
            queue.remove(one)
            model.remove(one)
        assert (list(queue), len(queue), bool(queue)) == (list(model), len(model), bool(model))
