"""What a node counts passes; words, numbers and counts that cannot be are refused and told by field alone."""

from collections.abc import Callable
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from contract.rollups import coarsened, message_id
from contract.subjects import rollup as rollup_subject
from contract.uplink_pb2 import Rollup
from controlplane.rollups.validation import Arrived, read_rollup
from edge.rollups.cut import count
from tests.controlplane.rollups.reports import NOW_MS, Names, calls, payload, rollup, some_rollup

WORDS = "call-anna-back"
NUMBER = "4930123456"


def problems_of(made: Rollup, body: bytes | None = None, headers: dict[str, str] | None = None) -> list[str]:
    arrived = Arrived(
        region="in-south",
        node="in-south-1",
        payload=body if body is not None else payload(made),
        headers=headers,
        now_ms=NOW_MS + 60_000,
    )
    _, problems = read_rollup(arrived, Names())
    assert not any(WORDS in problem or NUMBER in problem for problem in problems)
    return problems


@pytest.mark.parametrize("seed", range(5))
def test_what_nodes_count_passes_by_the_minute_and_by_the_hour(seed: int) -> None:
    entries = count([*calls(50, seed), *calls(20, seed + 100, "bank")])
    assert problems_of(rollup(entries)) == []
    assert problems_of(rollup(coarsened(entries, 60))) == []
    assert problems_of(rollup([])) == []


def test_bundles_not_older_than_the_newest_pass_and_none_at_all() -> None:
    odd = replace(calls(1, 1)[0], agent_version="a laptop")
    assert problems_of(rollup(count([odd]))) == []


Spoil = Callable[[Rollup], object]


def entry(made: Rollup) -> object:
    return made.entries[0]


SPOILED: dict[str, Spoil] = {
    "entries.tenant": lambda made: setattr(entry(made), "tenant", WORDS),
    "entries.agent": lambda made: setattr(entry(made), "agent", WORDS),
    "entries.intent": lambda made: setattr(entry(made), "intent", WORDS),
    "entries.intent: is no name": lambda made: setattr(entry(made), "intent", "My words"),
    "entries.intent: looks": lambda made: setattr(entry(made), "intent", f"n{NUMBER}"),
    "entries.agent_version": lambda made: setattr(entry(made), "agent_version", WORDS),
    "entries.agent_version: is no bundle": lambda made: setattr(entry(made), "agent_version", "18"),
    "entries.agent_version: is no bundle of": lambda made: setattr(entry(made), "agent_version", "007"),
    "entries.calls.escalated": lambda made: made.entries[0].calls.escalated.update({WORDS: 1}),
    "region": lambda made: setattr(made, "region", "eu-central"),
    "node": lambda made: setattr(made, "node", "in-south-2"),
    "seq": lambda made: setattr(made, "seq", 0),
    "entries.minute": lambda made: setattr(entry(made), "minute", NOW_MS // 60_000 + 60),
    "entries.calls: outcomes": lambda made: setattr(made.entries[0].calls, "total", int(NUMBER[:7])),
    "entries.calls.abandoned_by_turn": lambda made: made.entries[0].calls.abandoned_by_turn.update({3: 493012}),
    "entries.calls.repeated": lambda made: setattr(made.entries[0].calls, "repeated", 99_999),
    "entries.turns: more of a kind": lambda made: setattr(made.entries[0].turns, "silent", 99_999),
    "entries.turns.response_ms: more values": lambda made: made.entries[0].turns.response_ms.counts.append(99_999),
}


@pytest.mark.parametrize("problem", SPOILED)
def test_a_rollup_that_says_something_else_is_refused(problem: str) -> None:
    made = some_rollup(40)
    SPOILED[problem](made)
    assert any(found.startswith(problem) for found in problems_of(made)), problems_of(made)


@pytest.mark.parametrize(
    ("field", "value"), [("sum", 493_012.25), ("minimum", 3.0), ("maximum", 80_000_000.0), ("first_bin", 900)]
)
def test_a_sketch_whose_numbers_do_not_fit_its_bins_is_refused(field: str, value: float) -> None:
    made = some_rollup(40)
    sketch = next(entry.turns.response_ms for entry in made.entries if entry.turns.total > 3)
    setattr(sketch, field, value)
    assert any("response_ms" in problem for problem in problems_of(made))


@settings(max_examples=60, deadline=None)
@given(
    st.lists(
        st.lists(
            st.one_of(st.sampled_from([0, 1, 2, 86_400_000, 2**31]), st.integers(0, 100_000), st.integers(0, 2**27)),
            min_size=1,
            max_size=40,
        ),
        min_size=1,
        max_size=5,
    )
)
def test_a_sketch_of_any_durations_passes_however_it_was_merged(parts: list[list[int]]) -> None:
    """A rollup refused by mistake would be a minute of counts lost."""
    turn = calls(1, 1)[0].turns[0]
    made = [
        replace(
            calls(1, 1)[0],
            turns=tuple(
                replace(turn, seq=seq, began_at_ms=NOW_MS - part * 60_000, latencies_ms={"response_ms": value})
                for seq, value in enumerate(values)
            ),
        )
        for part, values in enumerate(parts)
    ]
    assert problems_of(rollup(count(made))) == []
    assert problems_of(rollup(coarsened(coarsened(count(made), 60), 1440))) == []


def test_a_sketch_of_nothing_says_nothing() -> None:
    made = some_rollup(1)
    made.entries[0].calls.duration_ms.Clear()
    made.entries[0].calls.duration_ms.sum = 493012.0
    assert any("duration_ms" in problem for problem in problems_of(made))


def test_fields_that_the_type_does_not_know_are_refused() -> None:
    hidden = b"\xfa\x3e\x0d" + b"call me at six"[:13]
    assert problems_of(some_rollup(), payload(some_rollup()) + hidden) != []


def test_a_header_with_words_and_a_payload_that_is_no_rollup_are_refused() -> None:
    assert problems_of(some_rollup(), headers={"Note": WORDS}) != []
    assert problems_of(some_rollup(), b"\xff\xff words") != []


def test_a_rollup_has_the_message_id_that_the_hub_would_give_it() -> None:
    subject = rollup_subject("in-south", "in-south-1")
    assert problems_of(some_rollup(seq=3), headers={"Nats-Msg-Id": message_id(subject, 3)}) == []
    for other in ("i-live-in-baker-street", "123-1", message_id(subject, 4), message_id("up.x.rollup.y", 3)):
        assert problems_of(some_rollup(seq=3), headers={"Nats-Msg-Id": other}) != []
