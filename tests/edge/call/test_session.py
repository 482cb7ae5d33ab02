import asyncio
from pathlib import Path

import pytest

from edge.call.ports import SAMPLE_RATE_HZ, DigitPressed, HangupCause, TransferOutcome
from edge.call.saved_call import Phase, SavedAction
from edge.call.watchdog import WatchdogSettings
from edge.conversation.dialogue import (
    AnswerKind,
    CallOutcome,
    DialogueState,
    EndCall,
    Escalate,
    Expectation,
    RunTool,
)
from edge.inference.errors import InferenceUnavailableError
from edge.records.model import CallRecord, TransferRecord
from tests.edge.call.talk import GREETING, WITHIN_S, ScriptedConversation, Talk, talking

TRANSFER = Escalate(reason="asked", destination="sip:desk@example.net", briefing="a caller", summary={})
FAREWELL = bytes(2 * SAMPLE_RATE_HZ)


async def test_a_question_is_answered_and_the_turn_is_on_record_with_its_timings(tmp_path: Path) -> None:
    async with talking(tmp_path, "What time is it?") as talk:
        await talk.until_said(GREETING)
        talk.leg.hear(0.6, loud=True)
        talk.leg.hear(1.0, loud=False)
        turn = await talk.until_said("you said What time is it?")
        assert turn.caller_text == "What time is it?"
        assert turn.timings.sent_ms is not None
        assert not turn.was_interrupted


async def test_a_caller_who_speaks_over_us_is_heard_and_only_heard_words_are_kept(tmp_path: Path) -> None:
    async with talking(tmp_path, "tell me a story", "no stop please") as talk:
        await talk.until_said(GREETING)
        talk.leg.is_instant = False
        talk.leg.hear(0.6, loud=True)
        talk.leg.hear(2.0, loud=False)
        async with asyncio.timeout(5):
            while talk.leg.sent < 40_000:
                await asyncio.sleep(0.01)
        talk.leg.play_out(2)
        talk.leg.hear(0.6, loud=True)
        talk.leg.hear(1.0, loud=False)
        await talk.until("flush")
        talk.leg.is_instant = True
        talk.leg.play_out()
        await talk.until_said("you said no stop please")
        told = next(turn for turn in talk.turns() if turn.caller_text == "tell me a story")
        assert told.was_interrupted
        assert told.agent_text
        assert not told.agent_text.endswith("story")


async def test_a_cough_does_not_cost_the_reply(tmp_path: Path) -> None:
    async with talking(tmp_path, "tell me a story", "") as talk:
        await talk.until_said(GREETING)
        talk.leg.is_instant = False
        talk.leg.hear(0.6, loud=True)
        talk.leg.hear(2.0, loud=False)
        async with asyncio.timeout(5):
            while talk.leg.sent < 40_000:
                await asyncio.sleep(0.01)
        talk.leg.hear(0.15, loud=True)
        talk.leg.hear(1.2, loud=False)
        await talk.until("resume")
        assert "flush" not in talk.leg.commands
        talk.leg.is_instant = True
        talk.leg.play_out()
        turn = await talk.until_said("quite a long story")
        assert not turn.was_interrupted


async def test_a_turn_survives_the_inference_service_being_away(tmp_path: Path) -> None:
    away = InferenceUnavailableError("the service is not there")
    async with talking(tmp_path, away, away, "hello there my friend") as talk:
        await talk.until_said(GREETING)
        talk.leg.hear(0.6, loud=True)
        talk.leg.hear(3.0, loud=False)
        await talk.until_said("you said hello there my friend")
        assert talk.recogniser.asked == 3


async def test_a_reply_that_never_comes_ends_with_an_apology_and_a_human(tmp_path: Path) -> None:
    conversation = ScriptedConversation(error=RuntimeError("broken"))
    impatient = WatchdogSettings(filler_s=0.2, stuck_turn_s=0.8)
    async with talking(tmp_path, "anything", conversation=conversation, watchdog=impatient) as talk:
        await talk.until_said(GREETING)
        talk.leg.hear(0.6, loud=True)
        talk.leg.hear(3.0, loud=False)
        await talk.until_said("technical problem")
        async with asyncio.timeout(5):
            while not any(isinstance(record, TransferRecord) for record in talk.records):
                await asyncio.sleep(0.01)
        talk.control.ended.set()
        assert await talk.call is CallOutcome.ESCALATED
        assert talk.control.transfers == ["+15550190"]


async def test_keyed_digits_are_the_answer_as_soon_as_they_are_enough(tmp_path: Path) -> None:
    wanted = DialogueState(expectation=Expectation(kind=AnswerKind.DIGITS, digits=4))
    async with talking(tmp_path, conversation=ScriptedConversation(opening_state=wanted)) as talk:
        await talk.until_said(GREETING)
        for digit in "1945":
            talk.leg.events.put_nowait(DigitPressed(digit=digit))
        await talk.until_said("1945")


async def test_a_silent_caller_is_asked_again_and_then_let_go(tmp_path: Path) -> None:
    impatient = WatchdogSettings(no_input_s=0.3, dead_audio_s=60.0)
    async with talking(tmp_path, watchdog=impatient) as talk:
        await talk.until_said("are you there 1")
        assert await talk.call is CallOutcome.CONTAINED
        assert talk.control.causes == [HangupCause.NORMAL]
        assert [turn.agent_text for turn in talk.turns()][-1] == "are you there 2"


async def test_a_leg_without_any_audio_is_dead(tmp_path: Path) -> None:
    async with talking(tmp_path, watchdog=WatchdogSettings(dead_audio_s=0.3)) as talk:
        assert await talk.call is CallOutcome.FAILED
        assert talk.control.causes == [HangupCause.TEMPORARY_FAILURE]


async def test_the_goodbye_is_heard_before_we_hang_up(tmp_path: Path) -> None:
    conversation = ScriptedConversation(actions={"goodbye then": EndCall(reason="goodbye")})
    async with talking(tmp_path, "goodbye then", conversation=conversation) as talk:
        await talk.until_said(GREETING)
        talk.leg.is_instant = False
        talk.leg.hear(0.6, loud=True)
        talk.leg.hear(1.0, loud=False)
        async with asyncio.timeout(5):
            while talk.leg.sent < 40_000:
                await asyncio.sleep(0.01)
        assert talk.control.causes == []
        talk.leg.is_instant = True
        talk.leg.play_out()
        assert await talk.call is CallOutcome.CONTAINED
        assert talk.control.causes == [HangupCause.NORMAL]


async def test_a_tool_runs_once_and_its_result_is_said(tmp_path: Path) -> None:
    conversation = ScriptedConversation(actions={"run it": RunTool(tool="status", arguments={})})
    async with talking(tmp_path, "run it", conversation=conversation) as talk:
        await talk.until_said(GREETING)
        talk.leg.hear(0.6, loud=True)
        talk.leg.hear(1.0, loud=False)
        await talk.until_said("the tool says forty two")
        assert len(talk.tools.keys) == 1


async def test_a_transfer_ends_our_part_and_is_on_record(tmp_path: Path) -> None:
    conversation = ScriptedConversation(actions={"a person please": TRANSFER})
    async with talking(tmp_path, "a person please", conversation=conversation) as talk:
        await talk.until_said(GREETING)
        talk.leg.hear(0.6, loud=True)
        talk.leg.hear(1.0, loud=False)
        await talk.until_said("you said a person please")
        async with asyncio.timeout(5):
            while not any(isinstance(record, TransferRecord) for record in talk.records):
                await asyncio.sleep(0.01)
        talk.control.ended.set()
        assert await talk.call is CallOutcome.ESCALATED
        closed = [record for record in talk.records if isinstance(record, CallRecord)][-1]
        assert closed.outcome is CallOutcome.ESCALATED
        assert closed.ended_at is not None


async def test_a_caller_stays_with_us_when_no_human_is_there(tmp_path: Path) -> None:
    conversation = ScriptedConversation(actions={"a person please": TRANSFER})
    async with talking(tmp_path, "a person please", conversation=conversation) as talk:
        talk.control.outcome = TransferOutcome.BUSY
        await talk.until_said(GREETING)
        talk.leg.hear(0.6, loud=True)
        talk.leg.hear(1.0, loud=False)
        await talk.until_said("nobody there busy")
        assert not talk.call.done()


async def until_with_human(talk: Talk) -> None:
    await talk.until_said(GREETING)
    talk.leg.hear(0.6, loud=True)
    talk.leg.hear(1.0, loud=False)
    async with asyncio.timeout(WITHIN_S):
        while not talk.saved or talk.saved[-1].phase is not Phase.WITH_HUMAN:
            await asyncio.sleep(0.01)


async def test_a_caller_who_is_cut_off_from_the_human_did_not_hang_up(tmp_path: Path) -> None:
    """The call failed, and what is saved of it tells whom the caller is to be put through to when they ring back."""
    conversation = ScriptedConversation(actions={"a person please": TRANSFER})
    async with talking(tmp_path, "a person please", conversation=conversation) as talk:
        await until_with_human(talk)
        talk.control.was_lost = True
        talk.control.ended.set()
        assert await talk.call is CallOutcome.FAILED
    assert talk.saved[-1].action == SavedAction(escalate=TRANSFER)
    last = talk.records[-1]
    assert isinstance(last, CallRecord)
    assert last.reason == "leg_lost"


async def until_farewell(talk: Talk, *, already_sent: int) -> None:
    async with asyncio.timeout(WITHIN_S):
        while talk.leg.sent < already_sent + len(FAREWELL):
            await asyncio.sleep(0.01)


async def test_who_is_cut_off_by_the_nodes_stop_hears_a_farewell(tmp_path: Path) -> None:
    """In the middle of an answer: that stops, the farewell is heard to its end, and only then we hang up."""
    async with talking(tmp_path, "tell me a story", farewell=FAREWELL) as talk:
        await talk.until_said(GREETING)
        talk.leg.is_instant = False
        talk.leg.hear(0.6, loud=True)
        talk.leg.hear(1.0, loud=False)
        async with asyncio.timeout(WITHIN_S):
            while not talk.saved[-1].turn:
                await asyncio.sleep(0.01)
        sent, saves = talk.leg.sent, len(talk.saved)
        talk.session.drain()
        await until_farewell(talk, already_sent=sent)
        assert "flush" in talk.leg.commands
        # Neither what the caller says now nor a second signal changes anything.
        talk.leg.hear(0.6, loud=True)
        talk.leg.hear(1.0, loud=False)
        talk.leg.events.put_nowait(DigitPressed(digit="#"))
        talk.session.drain()
        assert talk.control.causes == []
        talk.leg.play_out()
        assert await talk.call is CallOutcome.FAILED
        assert talk.control.causes == [HangupCause.TEMPORARY_FAILURE]
    last = talk.records[-1]
    assert isinstance(last, CallRecord)
    assert last.reason == "node_stopped"
    # Who rings back hears the answer that was cut off.
    assert len(talk.saved) == saves
    assert talk.saved[-1].turn is not None
    assert [turn.caller_text for turn in talk.turns()] == ["", "tell me a story"]


async def test_a_farewell_that_is_never_heard_holds_nobody_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("edge.call.farewell.GRACE_S", 0.1)
    async with talking(tmp_path, farewell=FAREWELL[:3200]) as talk:
        await talk.until_said(GREETING)
        talk.leg.is_instant = False
        talk.session.drain()
        async with asyncio.timeout(WITHIN_S):
            assert await talk.call is CallOutcome.FAILED


async def test_who_is_with_a_human_hears_no_farewell(tmp_path: Path) -> None:
    """We have no audio with them any more."""
    conversation = ScriptedConversation(actions={"a person please": TRANSFER})
    async with talking(tmp_path, "a person please", conversation=conversation, farewell=FAREWELL) as talk:
        await until_with_human(talk)
        sent = talk.leg.sent
        talk.session.drain()
        assert await talk.call is CallOutcome.FAILED
        assert talk.leg.sent == sent


async def test_a_call_that_was_resumed_elsewhere_ends_without_a_word(tmp_path: Path) -> None:
    async with talking(tmp_path, farewell=FAREWELL) as talk:
        await talk.until_said(GREETING)
        sent = talk.leg.sent
        talk.session.resumed_elsewhere()
        assert await talk.call is CallOutcome.FAILED
        assert talk.leg.sent == sent
    last = talk.records[-1]
    assert isinstance(last, CallRecord)
    assert last.reason == "resumed_elsewhere"
