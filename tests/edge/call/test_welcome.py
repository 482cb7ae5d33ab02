"""A session whose caller was cut off from another call: what is said first, what goes on, what is on record."""

import asyncio
from dataclasses import replace
from pathlib import Path

from edge.call.resumption import RingBack
from edge.call.saved_call import SavedAction, SavedCall
from edge.conversation.dialogue import CallOutcome, DialogueState, Pending, PendingKind, RunTool
from edge.records.model import CallRecord, ResumesRecord
from tests.edge.call.talk import GREETING, SORRY, WELCOME, WITHIN_S, ScriptedConversation, Talk, talking
from tests.edge.call.test_resumption import ESCALATE, HISTORY, REPLYING, SAVED

ASKS_CONSENT = DialogueState(pending=Pending(kind=PendingKind.CONSENT))


def ringing_back(saved: SavedCall) -> RingBack:
    return RingBack(call_id="old", node="node-a", saved=replace(saved, call_id="old"))


def consent_of(talk: Talk) -> str:
    (resumes,) = [record for record in talk.records if isinstance(record, ResumesRecord)]
    assert (resumes.call_id, resumes.resumes, resumes.from_node) == ("c1", "old", "node-a")
    return resumes.consent


async def test_the_answer_that_was_cut_off_is_said_and_the_conversation_goes_on(tmp_path: Path) -> None:
    """In a call of its own, whose first turn it is; the next answer has the old call behind it."""
    saved = replace(SAVED, turn=REPLYING, next_seq=3)
    async with talking(tmp_path, "and tomorrow", ring_back=ringing_back(saved)) as talk:
        turn = await talk.until_said("It is noon.")
        assert turn.agent_text.startswith(WELCOME)
        assert GREETING not in turn.agent_text
        assert (turn.seq, turn.caller_text) == (0, "")
        talk.leg.hear(0.5, loud=True)
        talk.leg.hear(1.5, loud=False)
        answer = await talk.until_said("you said and tomorrow")
        assert answer.seq == 1
        history = talk.saved[-1].dialogue.history
        assert history[: len(HISTORY)] == HISTORY
        assert [exchange.caller for exchange in history[len(HISTORY) :]] == ["", "and tomorrow"]
        assert talk.saved[-1].call_id == "c1"
        assert consent_of(talk) == "none"


async def test_a_tool_of_the_old_call_runs_as_the_same_act(tmp_path: Path) -> None:
    saved = replace(SAVED, action=SavedAction(run_tool=RunTool(tool="block", arguments={})), tool_key="old:2:block")
    async with talking(tmp_path, ring_back=ringing_back(saved)) as talk:
        await talk.until_said("the tool says forty two")
        assert talk.tools.keys == ["old:2:block"]


async def test_a_transfer_of_the_old_call_begins_again(tmp_path: Path) -> None:
    saved = replace(SAVED, action=SavedAction(escalate=ESCALATE))
    async with talking(tmp_path, ring_back=ringing_back(saved)) as talk:
        turn = await talk.until_said(WELCOME)
        assert SORRY not in turn.agent_text
        async with asyncio.timeout(WITHIN_S):
            while not talk.control.transfers:
                await asyncio.sleep(0.01)
        assert talk.control.transfers == [ESCALATE.destination]


async def test_a_call_whose_leg_was_lost_failed(tmp_path: Path) -> None:
    """Asterisk ended with it: nobody hung up, and the caller may ring back."""
    async with talking(tmp_path) as talk:
        await talk.until_said(GREETING)
        talk.control.was_lost = True
        talk.control.ended.set()
        assert await talk.call is CallOutcome.FAILED
    last = talk.records[-1]
    assert isinstance(last, CallRecord)
    assert last.reason == "leg_lost"


async def test_where_consent_is_asked_anew_nothing_is_done_before_it(tmp_path: Path) -> None:
    """Neither the tool of the old call nor its answer: another person may hold the telephone."""
    turn = replace(REPLYING, action=SavedAction(run_tool=RunTool(tool="block", arguments={})))
    saved = replace(SAVED, turn=turn, next_seq=3, tool_key="old:3:block")
    conversation = ScriptedConversation(opening_state=ASKS_CONSENT)
    async with talking(tmp_path, conversation=conversation, ring_back=ringing_back(saved)) as talk:
        said = await talk.until_said(WELCOME)
        assert "It is noon." not in said.agent_text
        assert talk.tools.keys == []
        assert consent_of(talk) == "asked"
