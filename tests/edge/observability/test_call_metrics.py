"""What calls were about, how sure understanding was and what stayed without a sound is counted."""

import time

import pytest

from edge.call.history import NO_INTENT, CallFacts, CallHistory
from edge.call.ports import HangupCause
from edge.call.turn import FinishedTurn
from edge.conversation.dialogue import CallOutcome, DialogueState, Reply, Understanding
from edge.observability.metrics import INTENTS_SHOWN, OTHER_INTENTS, CallMetrics
from edge.records.model import Transport, TurnTimings
from edge.records.subjects import name_subject


def turn(intent: str, confidence: float = 0.9, *, caller_text: str = "words", is_silent: bool = False) -> FinishedTurn:
    understanding = Understanding(intent=intent, confidence=confidence)
    return FinishedTurn(
        seq=1,
        began=time.monotonic(),
        caller_text=caller_text,
        agent_text="words",
        reply=Reply(state=DialogueState(), understanding=understanding, speeches=(), is_complete=True),
        was_interrupted=False,
        timings=TurnTimings(),
        is_silent=is_silent,
    )


def ended_call(*turns: FinishedTurn, outcome: CallOutcome = CallOutcome.CONTAINED) -> CallMetrics:
    """The metrics after one call of tenant `t` with these turns."""
    metrics = CallMetrics.create()
    facts = CallFacts(
        call_id="c",
        tenant="t",
        agent="a",
        agent_version="1",
        subject_id=name_subject("+15550123", bytes(32)),
        called_number="+15550100",
        transport=Transport.SIP,
    )
    history = CallHistory(facts, lambda _: None, metrics, time.monotonic)
    history.opened()
    for each in turns:
        history.turn(each)
    history.closed(outcome, "", HangupCause.NORMAL)
    return metrics


def intents(metrics: CallMetrics) -> dict[str, float]:
    samples = (sample for family in metrics.call_intents.collect() for sample in family.samples)
    return {sample.labels["intent"]: sample.value for sample in samples if sample.name.endswith("_total")}


@pytest.mark.parametrize(
    ("said", "counted"),
    [
        ((), NO_INTENT),
        (("human",), NO_INTENT),
        (("order_status", "yes", "human"), "order_status"),
        (("order_status", "returns"), "returns"),
        (("slot:card_number",), NO_INTENT),
        (("+49 151 2345678",), NO_INTENT),
    ],
)
def test_a_call_is_about_the_last_intent_that_was_acted_on(said: tuple[str, ...], counted: str) -> None:
    metrics = ended_call(*(turn(intent) for intent in said), outcome=CallOutcome.ESCALATED)
    assert intents(metrics) == {counted: 1.0}


def test_confidence_is_counted_where_the_caller_said_something() -> None:
    metrics = ended_call(turn("opening", 1.0, caller_text=""), turn("returns", 0.34))
    read = metrics.registry.get_sample_value
    assert read("borough_confidence_count", {"tenant": "t"}) == 1
    assert read("borough_confidence_bucket", {"tenant": "t", "le": "0.3"}) == 0
    assert read("borough_confidence_bucket", {"tenant": "t", "le": "0.4"}) == 1


def test_replies_without_a_sound_are_counted() -> None:
    metrics = ended_call(turn("returns"), turn("returns", is_silent=True))
    assert metrics.registry.get_sample_value("borough_silent_replies_total") == 1


def test_a_flood_of_intents_is_no_flood_of_series() -> None:
    metrics = CallMetrics.create()
    for number in range(INTENTS_SHOWN + 5):
        metrics.observe_end(outcome="contained", transport="sip", intent=f"intent-{number}")
    shown = intents(metrics)
    assert len(shown) == INTENTS_SHOWN + 1
    assert shown[OTHER_INTENTS] == 5
