from pyqmail.base.backoff import Backoff


def test_pauses_double_up_to_the_maximum_and_begin_again_after_a_success():
    backoff = Backoff(0.5, 3.0)
    assert [backoff.next_seconds() for _ in range(5)] == [0.5, 1.0, 2.0, 3.0, 3.0]
    assert backoff.tries == 5
    backoff.reset()
    assert (backoff.tries, backoff.next_seconds()) == (0, 0.5)


def test_a_failure_that_lasts_for_ever_is_no_trouble():
    backoff = Backoff(0.001, 10.0)
    assert all(backoff.next_seconds() <= 10.0 for _ in range(5000))
