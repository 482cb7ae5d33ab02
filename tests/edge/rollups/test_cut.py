"""Ended calls become counts and sketches, and no word of anybody gets into them."""

import ast
from dataclasses import replace
from pathlib import Path

import pytest

import edge.conversation
from contract.builtin_names import BUILTIN_INTENTS, BUILTIN_REASONS, KNOWLEDGE_INTENT
from contract.rollups import coarsened, key_of
from contract.sketch import LatencySketch, count_of
from contract.uplink_pb2 import Entry
from edge.conversation.commands import Command
from edge.conversation.policy import Decision
from edge.conversation.understanding import KNOWLEDGE_INTENT as CONVERSATIONS_KNOWLEDGE_INTENT
from edge.rollups.cut import LAST_TURN_COUNTED, CountedTurn, EndedCall, count

MINUTE = 60_000
TURN = CountedTurn(
    seq=1,
    began_at_ms=MINUTE * 100,
    intent="opening_hours",
    confidence=0.93,
    was_interrupted=False,
    is_silent=False,
    latencies_ms={"response_ms": 250, "pause_seen_ms": 64, "recognise_compute_ms": 80},
)
CALL = EndedCall(
    tenant="acme",
    agent="desk",
    agent_version="17-3fa9c04d11ab",
    ended_at_ms=MINUTE * 101 + 5,
    duration_ms=65_000,
    outcome="contained",
    reason="goodbye",
    first_audio_ms=41,
    is_repeated=False,
    turns=(TURN,),
)


def entry_of(entries: list[Entry], minute: int, intent: str) -> Entry:
    (found,) = (entry for entry in entries if (entry.minute, entry.intent) == (minute, intent))
    return found


def test_a_call_counts_in_the_minute_of_its_end_and_a_turn_in_that_of_its_beginning() -> None:
    entries = count([CALL])
    turn, call = entry_of(entries, 100, "opening_hours"), entry_of(entries, 101, "opening_hours")
    assert turn.turns.total == 1
    assert not turn.HasField("calls")
    assert (call.calls.total, call.calls.contained) == (1, 1)
    assert not call.HasField("turns")
    assert call.agent_version == "17"


def test_latencies_are_sketched_by_stage_and_stages_that_did_not_run_are_not() -> None:
    turns = entry_of(count([CALL]), 100, "opening_hours").turns
    assert (count_of(turns.response_ms), turns.response_ms.maximum) == (1, 250)
    assert count_of(turns.recognise_compute_ms) == 1
    assert count_of(turns.understand_ms) == 0
    calls = entry_of(count([CALL]), 101, "opening_hours").calls
    assert (calls.first_audio_ms.sum, calls.duration_ms.sum) == (41, 65_000)


@pytest.mark.parametrize(
    ("call", "field", "value"),
    [
        (CALL, "contained", 1),
        (replace(CALL, outcome="failed"), "failed", 1),
        (replace(CALL, outcome=None), "failed", 1),
        (replace(CALL, outcome="abandoned"), "abandoned", 1),
        (replace(CALL, outcome="abandoned"), "abandoned_by_turn", {1: 1}),
        (replace(CALL, outcome="abandoned", turns=()), "abandoned_by_turn", {0: 1}),
        (
            replace(CALL, outcome="abandoned", turns=(replace(TURN, seq=900),)),
            "abandoned_by_turn",
            {LAST_TURN_COUNTED: 1},
        ),
        (replace(CALL, outcome="escalated", reason="asked_for_human"), "escalated", {"asked_for_human": 1}),
        (replace(CALL, outcome="escalated", reason="My card is 4111"), "escalated", {"other": 1}),
        (replace(CALL, outcome="escalated", reason=None), "escalated", {"other": 1}),
        (replace(CALL, is_repeated=True), "repeated", 1),
    ],
)
def test_an_outcome_is_counted_with_its_reason_or_turn(call: EndedCall, field: str, value: object) -> None:
    (calls,) = (entry.calls for entry in count([call]) if entry.HasField("calls"))
    found = getattr(calls, field)
    assert (found if isinstance(found, int) else dict(found)) == value
    assert calls.total == 1


def test_confidence_falls_into_ten_bins_and_silence_and_interruption_are_counted() -> None:
    turns = [
        replace(TURN, confidence=confidence, is_silent=confidence == 0.0, was_interrupted=confidence == 1.0)
        for confidence in (0.0, 0.05, 0.1, 0.99, 1.0)
    ]
    counted = entry_of(count([replace(CALL, turns=(*turns, replace(TURN, confidence=None)))]), 100, "opening_hours")
    assert list(counted.turns.confidence) == [2, 1, 0, 0, 0, 0, 0, 0, 0, 2]
    assert (counted.turns.total, counted.turns.silent, counted.turns.interrupted) == (6, 1, 1)


@pytest.mark.parametrize(
    ("intent", "counted"),
    [
        ("price", "price"),
        ("slot:card_number", "slot"),
        ("tool:block_card", "tool"),
        ("Do you sell phones?", "other"),
        ("+4930123456", "other"),
        ("", ""),
        (None, ""),
        ("x" * 61, "other"),
        ("call-me-1234567", "other"),
    ],
)
def test_an_intent_is_a_name_or_other(intent: str | None, counted: str) -> None:
    entries = count([replace(CALL, turns=(replace(TURN, intent=intent),))])
    assert {entry.intent for entry in entries if entry.HasField("turns")} == {counted}


@pytest.mark.parametrize(
    ("intents", "of_call"),
    [
        (["opening", "price", "slot:size", "yes"], "price"),
        (["opening", "price", "hours", "not_understood"], "hours"),
        (["opening", KNOWLEDGE_INTENT], KNOWLEDGE_INTENT),
        (["opening", "no_input"], ""),
        ([], ""),
    ],
)
def test_a_call_counts_for_the_last_intent_that_was_acted_on(intents: list[str], of_call: str) -> None:
    turns = tuple(replace(TURN, seq=seq, intent=intent) for seq, intent in enumerate(intents))
    (call,) = (entry for entry in count([replace(CALL, turns=turns)]) if entry.HasField("calls"))
    assert call.intent == of_call


@pytest.mark.parametrize(
    ("version", "counted"),
    [("17-3fa9c04d11ab", "17"), ("3", "3"), ("3fa9c04d11ab", "0"), ("493012345678", "0"), ("my words", "0"), ("", "0")],
)
def test_of_a_version_only_the_number_of_a_bundle_travels(version: str, counted: str) -> None:
    assert {entry.agent_version for entry in count([replace(CALL, agent_version=version)])} == {counted}


def test_coarser_entries_hold_the_same_counts() -> None:
    calls = [replace(CALL, ended_at_ms=CALL.ended_at_ms + step * MINUTE, duration_ms=step) for step in range(150)]
    fine = count(calls)
    hours = coarsened(fine, 60)
    assert {key_of(entry).minute % 60 for entry in hours} == {0}
    for entries in (fine, hours):
        assert sum(entry.calls.total for entry in entries) == 150
        assert sum(entry.turns.total for entry in entries) == 150
        total = LatencySketch()
        for entry in entries:
            total.merge(entry.calls.duration_ms)
        assert total.quantiles([0.5]) == pytest.approx([74.5], rel=0.005)


def test_every_name_that_the_release_itself_gives_is_known_to_both_ends() -> None:
    """What a conversation says by itself must be in contract/builtin_names.py, or the hub refuses its rollups."""
    folder = Path(edge.conversation.__file__).parent
    calls = [
        node
        for path in folder.glob("*.py")
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.Call)
    ]
    intents = {name for call in calls if _called(call) == "certain" for name in _literals(call.args[:1])}
    reasons = {name for call in calls if _called(call) == "escalate" for name in _literals(call.args[2:3])}
    assert len(intents) > 8
    assert len(reasons) > 3
    assert {intent.partition(":")[0] for intent in intents} <= BUILTIN_INTENTS
    assert reasons <= BUILTIN_REASONS
    assert {command.value for command in Command} <= BUILTIN_INTENTS
    assert {decision.value for decision in Decision if decision is not Decision.ANSWER} <= BUILTIN_INTENTS
    assert CONVERSATIONS_KNOWLEDGE_INTENT == KNOWLEDGE_INTENT


def _called(call: ast.Call) -> str:
    return call.func.attr if isinstance(call.func, ast.Attribute) else getattr(call.func, "id", "")


def _literals(nodes: list[ast.expr]) -> list[str]:
    return [node.value for node in nodes if isinstance(node, ast.Constant) and isinstance(node.value, str)]
