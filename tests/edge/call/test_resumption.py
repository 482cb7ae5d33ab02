"""A session that goes on with a call that another worker had: what it says first, and what it does again."""

import asyncio
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

from edge.call.resumption import Resumption
from edge.call.saved_call import Phase, SavedAction, SavedCall, SavedTurn
from edge.conversation.dialogue import (
    CallOutcome,
    DialogueState,
    Escalate,
    Exchange,
    RunTool,
    Speech,
    SpeechSource,
    Understanding,
)
from edge.records.model import Adopted, CallRecord, TransferRecord, Transport
from edge.records.subjects import SubjectId
from tests.edge.call.talk import GREETING, SORRY, Talk, talking

ANSWERED = datetime.now(UTC) - timedelta(seconds=30)
CALL = CallRecord(
    call_id="c1",
    tenant="t",
    agent="a",
    agent_version="1",
    subject_id=SubjectId("s" * 32),
    called_number="+15550100",
    transport=Transport.SIP,
    started_at=ANSWERED,
    answered_at=ANSWERED,
)
HISTORY = (Exchange(caller="", agent=GREETING, intent="opening"), Exchange(caller="hello", agent="Hi.", intent="x"))
ESCALATE = Escalate(reason="asked", destination="+15550190", briefing="A caller asks for you.", summary={})
SAVED = SavedCall(
    call_id="c1",
    tenant="t",
    agent="a",
    subject_id=CALL.subject_id,
    phase=Phase.TALKING,
    dialogue=DialogueState(history=HISTORY, last_speech="Hi."),
    next_seq=2,
    silences=0,
    intent="opening_hours",
    first_audio_ms=7,
)
REPLYING = SavedTurn(
    seq=2,
    began_ms=round(ANSWERED.timestamp() * 1000) + 20_000,
    caller_text="what time is it",
    understanding=Understanding(intent="time", confidence=1.0),
    speeches=(Speech(text="It is noon.", source=SpeechSource.TEMPLATE),),
    action=None,
    is_protected=False,
)


def resumed(saved: SavedCall | None, *, next_seq: int = 2, is_with_human: bool = False) -> Resumption:
    adopted = Adopted(call=CALL, state=b"", next_seq=next_seq, tool_runs=0, transfers=0, last_known_at=ANSWERED)
    return Resumption(adopted=adopted, saved=saved, is_with_human=is_with_human, is_known=True)


async def finished(talk: Talk) -> CallRecord:
    talk.control.ended.set()
    await talk.call
    last = talk.records[-1]
    assert isinstance(last, CallRecord)
    return last


async def test_a_caller_who_was_listened_to_hears_the_last_words_again(tmp_path: Path) -> None:
    async with talking(tmp_path, "and tomorrow", resumption=resumed(SAVED)) as talk:
        turn = await talk.until_said(SORRY)
        assert (turn.seq, turn.caller_text) == (2, "")
        assert turn.agent_text.endswith("Hi.")
        talk.leg.hear(0.5, loud=True)
        talk.leg.hear(1.5, loud=False)
        answer = await talk.until_said("you said and tomorrow")
        assert (answer.seq, answer.caller_text) == (3, "and tomorrow")
        record = await finished(talk)
    assert (record.call_id, record.answered_at, record.first_audio_ms) == ("c1", ANSWERED, 7)
    assert [turn.seq for turn in talk.turns()] == [2, 3]


async def test_a_reply_that_was_cut_off_is_said_again_in_its_own_turn(tmp_path: Path) -> None:
    """The caller's words are not lost: the turn is on record with them, once, and with the time of before."""
    saved = replace(SAVED, turn=REPLYING, next_seq=3)
    async with talking(tmp_path, resumption=resumed(saved)) as talk:
        turn = await talk.until_said("It is noon.")
        assert turn.agent_text.startswith(SORRY)
        assert (turn.seq, turn.caller_text, turn.intent) == (2, "what time is it", "time")
        assert abs(turn.began_at - ANSWERED - timedelta(seconds=20)) < timedelta(seconds=1)
        await finished(talk)
    assert [turn.seq for turn in talk.turns()] == [2]


async def test_a_reply_that_is_on_record_is_not_recorded_twice(tmp_path: Path) -> None:
    saved = replace(SAVED, turn=REPLYING, next_seq=3)
    async with talking(tmp_path, resumption=resumed(saved, next_seq=3)) as talk:
        turn = await talk.until_said(SORRY)
        assert (turn.seq, turn.caller_text) == (3, "")
        await finished(talk)


async def test_a_tool_runs_again_as_the_same_act(tmp_path: Path) -> None:
    """With its first key the system behind it does nothing twice; its answer is said."""
    tool = RunTool(tool="block", arguments={})
    saved = replace(SAVED, action=SavedAction(run_tool=tool), tool_key="c1:2:block")
    async with talking(tmp_path, resumption=resumed(saved)) as talk:
        await talk.until_said("the tool says forty two")
        assert talk.tools.keys == ["c1:2:block"]
        await finished(talk)


async def test_a_tool_whose_filler_was_being_said_runs_again_too(tmp_path: Path) -> None:
    turn = replace(REPLYING, action=SavedAction(run_tool=RunTool(tool="block", arguments={})))
    saved = replace(SAVED, turn=turn, next_seq=3, tool_key="c1:3:block")
    async with talking(tmp_path, resumption=resumed(saved)) as talk:
        await talk.until_said("the tool says forty two")
        assert talk.tools.keys == ["c1:3:block"]
        await finished(talk)


async def test_a_transfer_is_tried_again(tmp_path: Path) -> None:
    saved = replace(SAVED, phase=Phase.TRANSFERRING, action=SavedAction(escalate=ESCALATE))
    async with talking(tmp_path, resumption=resumed(saved)) as talk:
        await talk.until_said(SORRY)
        async with asyncio.timeout(5):
            while not talk.control.transfers:
                await asyncio.sleep(0.01)
        record = await finished(talk)
    assert talk.control.transfers == [ESCALATE.destination]
    assert record.outcome is CallOutcome.ESCALATED


async def test_nothing_is_said_to_a_caller_who_talks_with_a_human(tmp_path: Path) -> None:
    """Who was connected just before the worker died is entered as connected."""
    saved = replace(SAVED, phase=Phase.TRANSFERRING, action=SavedAction(escalate=ESCALATE))
    async with talking(tmp_path, resumption=resumed(saved, is_with_human=True)) as talk:
        record = await finished(talk)
    assert not talk.turns()
    assert talk.leg.sent == 0
    assert record.outcome is CallOutcome.ESCALATED
    assert [each.reason for each in talk.records if isinstance(each, TransferRecord)] == ["asked"]


async def test_a_call_without_a_state_begins_anew(tmp_path: Path) -> None:
    async with talking(tmp_path, resumption=resumed(None, next_seq=4)) as talk:
        turn = await talk.until_said(GREETING)
        assert turn.seq == 4
        assert turn.agent_text.startswith(SORRY)
        await finished(talk)


async def test_every_step_of_a_call_is_saved(tmp_path: Path) -> None:
    """The greeting under way, its end, the answer under way, its end."""
    async with talking(tmp_path, "hello") as talk:
        await talk.until_said(GREETING)
        talk.leg.hear(0.5, loud=True)
        talk.leg.hear(1.5, loud=False)
        await talk.until_said("you said hello")
        await asyncio.sleep(0)
        await finished(talk)
    steps = [(saved.turn.seq if saved.turn is not None else None, saved.next_seq) for saved in talk.saved]
    assert steps == [(0, 1), (None, 1), (1, 2), (None, 2)]
    assert talk.saved[2].turn is not None
    assert talk.saved[2].turn.caller_text == "hello"
    assert talk.saved[3].dialogue.history[-1].caller == "hello"


async def test_who_is_cut_off_twice_hears_one_apology(tmp_path: Path) -> None:
    """The reply that was being said began with the apology for the first time."""
    again = (Speech(text=SORRY, source=SpeechSource.TEMPLATE), *REPLYING.speeches)
    saved = replace(SAVED, turn=replace(REPLYING, speeches=again), next_seq=3)
    async with talking(tmp_path, resumption=resumed(saved)) as talk:
        turn = await talk.until_said("It is noon.")
        assert turn.agent_text.count(SORRY) == 1
        await finished(talk)
