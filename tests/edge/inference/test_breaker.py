"""A breaker opens after failures in a row, lets one request try, and closes when that is answered."""

from edge.inference.breaker import FIRST_PAUSE_S, LONGEST_PAUSE_S, TRIP_AFTER, Breaker, BreakerState


def _open(now_s: float = 0.0) -> Breaker:
    breaker = Breaker()
    for _ in range(TRIP_AFTER):
        breaker.sent()
        breaker.failed(now_s)
    return breaker


def test_failures_in_a_row_open_it() -> None:
    breaker = Breaker()
    for _ in range(10):
        for _ in range(TRIP_AFTER - 1):
            breaker.failed(0.0)
        breaker.succeeded()
    assert breaker.state is BreakerState.CLOSED
    assert _open().state is BreakerState.OPEN
    assert _open().trips == 1


def test_one_request_tries_after_the_pause() -> None:
    breaker = _open(now_s=5.0)
    assert not breaker.allows(5.0 + FIRST_PAUSE_S - 0.01)
    assert breaker.allows(5.0 + FIRST_PAUSE_S)
    breaker.sent()
    assert not breaker.allows(1e9)
    breaker.succeeded()
    assert breaker.allows(0.0)
    assert breaker.state is BreakerState.CLOSED


def test_each_probe_that_fails_doubles_the_pause_up_to_a_bound() -> None:
    breaker, now_s, pauses = _open(), 0.0, []
    for _ in range(8):
        start_s = now_s
        while not breaker.allows(now_s):
            now_s += 0.25
        pauses.append(now_s - start_s)
        breaker.sent()
        breaker.failed(now_s)
    assert pauses[:3] == [FIRST_PAUSE_S, 2 * FIRST_PAUSE_S, 4 * FIRST_PAUSE_S]
    assert pauses[-1] == LONGEST_PAUSE_S
    assert breaker.trips == 1


def test_a_probe_that_nobody_waited_for_says_nothing() -> None:
    breaker = _open()
    breaker.sent()
    breaker.withdrawn()
    assert breaker.state is BreakerState.OPEN
    assert breaker.allows(FIRST_PAUSE_S)


def test_another_process_at_the_other_end_closes_it() -> None:
    breaker = _open()
    breaker.reset()
    assert breaker.allows(0.0)
    breaker.failed(0.0)
    assert breaker.state is BreakerState.CLOSED
