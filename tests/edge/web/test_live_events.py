"""Live events reach every watcher, late ones too, and never pile up."""

import json
from dataclasses import fields

import pytest

from edge.call.observer import AgentSaid, CallActivity, CallEnded, CallerSaid, CallEvent, StateChanged, TurnTimed
from edge.conversation.dialogue import CallOutcome
from edge.records.model import TurnTimings
from edge.web.live_events import QUEUE_LIMIT, LiveEvents, encode_event

EVENTS: tuple[CallEvent, ...] = (
    StateChanged(activity=CallActivity.LISTENING),
    CallerSaid(seq=1, text="hello", is_final=False),
    AgentSaid(seq=1, text="good day", was_interrupted=True),
    TurnTimed(seq=1, timings=TurnTimings(sent_ms=210)),
    CallEnded(outcome=CallOutcome.CONTAINED, reason="done"),
)


@pytest.mark.parametrize("event", EVENTS, ids=lambda event: type(event).__name__)
def test_every_event_is_json_with_all_its_fields(event: CallEvent) -> None:
    decoded = json.loads(encode_event(event))
    assert set(decoded) == {"type", *(field.name for field in fields(event))}


async def test_a_late_watcher_sees_the_call_from_its_beginning() -> None:
    live = LiveEvents()
    live.observe(EVENTS[0])
    with live.subscribe() as subscription:
        live.observe(EVENTS[1])
        assert [await subscription.next(), await subscription.next()] == list(EVENTS[:2])


async def test_a_slow_watcher_loses_the_oldest_and_slows_nobody() -> None:
    live = LiveEvents()
    with live.subscribe() as subscription:
        for seq in range(QUEUE_LIMIT + 10):
            live.observe(CallerSaid(seq=seq, text="", is_final=True))
        assert await subscription.next() == CallerSaid(seq=10, text="", is_final=True)


async def test_nothing_follows_the_end() -> None:
    live = LiveEvents()
    live.observe(EVENTS[-1])
    live.observe(CallEnded(outcome=CallOutcome.FAILED, reason="second"))
    with live.subscribe() as subscription:
        assert await subscription.next() == EVENTS[-1]
        live.observe(EVENTS[0])
        assert not subscription._events
