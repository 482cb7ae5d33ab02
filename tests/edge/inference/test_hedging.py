"""When an answer counts as slow, and how many second requests there may be."""

from edge.inference.hedging import BOUNDS, HEDGED_SHARE, MOST_SAVED, DelayBounds, FirstAnswers, HedgeBudget, Work

WIDE = DelayBounds(least_s=0.01, initial_s=0.5, most_s=10.0)


def test_slow_is_what_takes_longer_than_99_of_100_did() -> None:
    answers = FirstAnswers(WIDE)
    for index in range(500):
        # 7 and 500 have no divisor in common: every wait once, in no order.
        answers.add(7 * index % 500 / 500)
    assert 0.95 <= answers.slow_after_s() <= 1.0


def test_few_answers_say_little() -> None:
    answers = FirstAnswers(WIDE)
    for _ in range(29):
        answers.add(3.0)
    assert answers.slow_after_s() == WIDE.initial_s
    answers.add(3.0)
    assert answers.slow_after_s() == 3.0


def test_the_delay_stays_within_its_bounds() -> None:
    for work in Work:
        for wait_s in (0.0, 60.0):
            answers = FirstAnswers(BOUNDS[work])
            for _ in range(100):
                answers.add(wait_s)
            assert answers.slow_after_s() in (BOUNDS[work].least_s, BOUNDS[work].most_s)


def test_a_node_where_everything_is_slow_sends_few_second_requests() -> None:
    budget, sent = HedgeBudget(), 0
    for _ in range(2_000):
        budget.earn()
        sent += budget.spend()
    assert sent <= MOST_SAVED + 2_000 * HEDGED_SHARE
    assert sent >= 2_000 * HEDGED_SHARE


def test_quiet_times_save_up_no_flood() -> None:
    budget = HedgeBudget()
    for _ in range(10_000):
        budget.earn()
    assert sum(budget.spend() for _ in range(100)) == MOST_SAVED
