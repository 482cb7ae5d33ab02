"""Calls in the order in which nodes told of them: one is new, the others are repeats, however often one asks."""

from hypothesis import given
from hypothesis import strategies as st

from edge.rollups.recent import CALLS_KEPT, REPEAT_WITHIN_MS, Sighting, note

NOON_MS = 1_795_000_000_000


def at(started_ms: int, call_id: str | None = None) -> Sighting:
    return Sighting(tenant="acme", subject_id="anna", call_id=call_id or f"call-{started_ms}", started_ms=started_ms)


def test_a_call_is_a_repeat_of_one_within_a_day() -> None:
    first, back, late = at(NOON_MS), at(NOON_MS + REPEAT_WITHIN_MS), at(NOON_MS + 2 * REPEAT_WITHIN_MS + 1)
    value, repeated = note(b"", [first, back, late])
    assert repeated == {first.call_id: False, back.call_id: True, late.call_id: False}
    assert first.call_id.encode() not in value


def test_who_tells_again_gets_the_same_answer() -> None:
    mine, other = at(NOON_MS + 5, "mine"), at(NOON_MS, "other")
    value, first = note(b"", [mine])
    value, others = note(value, [other])
    assert note(value, [mine]) == (value, first) == (value, {"mine": False})
    assert others == {"other": True}


@given(
    tellings=st.lists(st.lists(st.integers(0, REPEAT_WITHIN_MS), min_size=1, max_size=4), min_size=1, max_size=8),
    again=st.lists(st.integers(0, 7), max_size=8),
)
def test_of_calls_within_a_day_all_but_one_are_repeats(tellings: list[list[int]], again: list[int]) -> None:
    value, answers = b"", dict[str, bool]()
    for telling in [*tellings, *(tellings[index] for index in again if index < len(tellings))]:
        value, told = note(value, [at(NOON_MS + offset) for offset in telling])
        assert all(answers.setdefault(call_id, is_repeated) == is_repeated for call_id, is_repeated in told.items())
    assert sum(answers.values()) == len(answers) - 1


def test_a_busy_number_does_not_grow_without_bound_and_old_calls_go() -> None:
    value, _ = note(b"", [at(NOON_MS + number) for number in range(3 * CALLS_KEPT)])
    assert len(value) < 64 * 1024
    value, _ = note(value, [at(NOON_MS + 3 * REPEAT_WITHIN_MS)])
    assert len(value) < 100


def test_a_value_that_cannot_be_read_counts_as_none() -> None:
    for value in (b"\xff", b"{}", b"7", b'[["a"]]', b"[[1, null, 0]]"):
        _, repeated = note(value, [at(NOON_MS)])
        assert list(repeated.values()) == [False]
