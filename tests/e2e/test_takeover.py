"""A call worker dies during a call: a sibling goes on with it. Real Asterisk, real models, judged by what was heard."""

import asyncio
import os
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pytest

from bench.caller import CallTrace, Ending
from bench.scenario import Expectations, ExpectedAction, Line, Say, Scenario
from bench.target import Target
from edge.call.saved_call import Phase, SavedCall
from edge.conversation.dialogue import CallOutcome
from edge.records.database import DatabaseSettings
from edge.records.errors import RecordsError
from edge.records.store import CallReader
from edge.records.verification import Verdict, verify
from tests.e2e.calling import WITHIN_S, Calling, slots_in_use, until
from tests.e2e.test_calls import BANK, left_in_asterisk, lines_of
from tests.e2e.watched_call import WatchedCall, standing_by

SORRY = "Sorry, we were cut off for a moment."
HOURS = lines_of("What time do you close on Friday?", "And what about Saturday?")
HUMAN = Scenario(
    tenant=BANK,
    id="test",
    tags=(),
    lines=(
        Line(
            act=Say(text="I would like to talk to a human, please."),
            expect=Expectations(action=ExpectedAction.ESCALATE),
        ),
    ),
)


@contextmanager
def calling(region: Target, scenario: Scenario) -> Iterator[tuple[WatchedCall, list[CallTrace]]]:
    """A call while the block runs, and what the caller made of it afterwards; both workers live at its beginning."""
    until(lambda: standing_by(region))
    seen = _call_ids(region)
    thread = Calling(region, scenario)
    thread.start()
    until(lambda: bool(_call_ids(region) - seen))
    (call_id,) = _call_ids(region) - seen
    traces: list[CallTrace] = []
    yield WatchedCall(region=region, tenant=BANK, call_id=call_id), traces
    thread.join(WITHIN_S)
    traces += thread.traces


def _call_ids(region: Target) -> set[str]:
    try:
        return {call.call_id for call in CallReader(region.records, BANK, DatabaseSettings()).recent_calls(1000)}
    except RecordsError:  # the first call of a region is about to make its tables
        return set()


def is_greeting(saved: SavedCall) -> bool:
    return saved.turn is not None and saved.turn.seq == 0


def is_answering(saved: SavedCall) -> bool:
    return saved.turn is not None and bool(saved.turn.caller_text)


def is_listening(saved: SavedCall) -> bool:
    return saved.turn is None and len(saved.dialogue.history) > 1


def judge(region: Target, call: WatchedCall, traces: list[CallTrace], *, adoptions: int, unheard: int = 0) -> None:
    """The caller had one call, in one record, with every turn once, and nothing of it is left."""
    (trace,) = traces
    assert trace.ending is Ending.CALLER
    assert trace.is_script_done
    assert not trace.problems
    until(lambda: call.record.ended_at is not None)
    assert call.adoptions == adoptions
    turns = call.turns
    assert [turn.seq for turn in turns] == list(range(len(turns)))
    lines = [turn.caller_text for turn in turns if turn.caller_text]
    assert len(trace.plan.lines) - unheard <= len(lines) <= len(trace.plan.lines)
    assert len(set(lines)) == len(lines)
    assert sum(SORRY in turn.agent_text for turn in turns) <= adoptions
    until(lambda: slots_in_use(region) == 0)
    until(lambda: asyncio.run(left_in_asterisk(region)) == 0)
    report = verify(region.records, BANK, DatabaseSettings())
    assert report.verdict is Verdict.WHOLE


def test_a_greeting_that_was_cut_off_is_said_again(region: Target) -> None:
    with calling(region, lines_of("What time do you close on Friday?")) as (call, traces):
        call.until(is_greeting)
        os.kill(call.owner, signal.SIGKILL)
    judge(region, call, traces, adoptions=1)
    assert call.turns[0].agent_text.startswith(SORRY)
    assert "five thirty" in call.turns[1].agent_text


@pytest.mark.parametrize("moment", [is_answering, is_listening])
def test_a_call_goes_on_after_kill_9_of_its_worker(region: Target, moment: Callable[[SavedCall], bool]) -> None:
    """What was cut off is said again, and the next answer rests on the turn before."""
    with calling(region, HOURS) as (call, traces):
        call.until(moment)
        os.kill(call.owner, signal.SIGKILL)
    judge(region, call, traces, adoptions=1)
    assert call.record.outcome is CallOutcome.CONTAINED
    (saturday,) = [turn for turn in call.turns if "saturday" in turn.caller_text.lower()]
    assert "saturday" in saturday.agent_text.lower()


def test_a_transfer_begins_again(region: Target) -> None:
    """The human who was being rung is let go, the caller hears why, and another attempt connects them."""
    with calling(region, HUMAN) as (call, traces):
        call.until(lambda saved: saved.phase is Phase.TRANSFERRING)
        os.kill(call.owner, signal.SIGKILL)
    judge(region, call, traces, adoptions=1)
    assert call.record.outcome is CallOutcome.ESCALATED


def test_caller_and_human_talk_on(region: Target) -> None:
    """Nothing is said to them, and the end of their talk is the end of the call."""
    with calling(region, HUMAN) as (call, traces):
        call.until(lambda saved: saved.phase is Phase.WITH_HUMAN)
        os.kill(call.owner, signal.SIGKILL)
        until(lambda: call.adoptions == 1)
    judge(region, call, traces, adoptions=1)
    assert call.record.outcome is CallOutcome.ESCALATED
    assert not any(SORRY in turn.agent_text for turn in call.turns)


def test_a_worker_that_hangs_does_not_come_back_to_its_call(region: Target) -> None:
    """It is ended before its call is adopted, so that waking up it has no voice, no slot and no record."""
    with calling(region, HOURS) as (call, traces):
        call.until(is_answering)
        owner = call.owner
        stopped = os.pidfd_open(owner)
        os.kill(owner, signal.SIGSTOP)
        until(lambda: call.adoptions == 1)
        with pytest.raises(ProcessLookupError):
            signal.pidfd_send_signal(stopped, signal.SIGCONT)
        os.close(stopped)
        assert call.owner != owner
        assert slots_in_use(region) == 1
    # What the caller says to a worker that is stopped is not heard; it is asked again.
    judge(region, call, traces, adoptions=1, unheard=1)
