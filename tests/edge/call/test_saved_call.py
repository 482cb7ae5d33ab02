"""The state of a call survives its message whole, and a message that is none is refused without quoting it."""

import json
from dataclasses import fields, replace

import pytest

from edge.call.errors import CallStateInvalidError
from edge.call.saved_call import VERSION, Phase, SavedAction, SavedCall, SavedTurn, decode, encode
from edge.conversation.dialogue import (
    AnswerKind,
    Citation,
    DialogueState,
    EndCall,
    Escalate,
    Exchange,
    Expectation,
    Pending,
    PendingKind,
    RunTool,
    Speech,
    SpeechSource,
    Understanding,
)
from edge.records.subjects import SubjectId

DIALOGUE = DialogueState(
    history=(Exchange(caller="my card is gone", agent="Which card?", intent="lost_card"),),
    flow="lost_card",
    step=2,
    slots={"card": "debit"},
    topic_item_id="cards#3",
    misunderstandings=1,
    expectation=Expectation(kind=AnswerKind.DIGITS, digits=4, choices=("debit", "credit")),
    last_speech="Which card?",
    pending=Pending(kind=PendingKind.ITEM, intent="price", item_id="i1", choices=("i1", "i2"), is_heard=False),
    has_consent=True,
)
ESCALATE = Escalate(
    reason="asked_for_human", destination="sip:desk@bank.example", briefing="A caller.", summary={"turns": 2, "x": [1]}
)
SAVED = SavedCall(
    call_id="node-1.2",
    tenant="acme",
    agent="desk",
    subject_id=SubjectId("a" * 32),
    phase=Phase.TRANSFERRING,
    dialogue=DIALOGUE,
    next_seq=3,
    silences=1,
    intent="lost_card",
    first_audio_ms=12,
    turn=SavedTurn(
        seq=2,
        began_ms=1_795_445_732_000,
        caller_text="it's \"José's\" debit card",
        understanding=Understanding(intent="lost_card", confidence=0.9, slots={"card": "debit"}),
        speeches=(Speech(text="One moment.", source=SpeechSource.PASSAGE, citation=Citation(item_id="i", version=4)),),
        action=SavedAction(run_tool=RunTool(tool="block", arguments={"card": "debit"})),
        is_protected=True,
    ),
    action=SavedAction(escalate=ESCALATE),
    tool_key="node-1.2:3:block",
)


def test_every_field_survives() -> None:
    unset = {field.name for field in fields(SAVED) if getattr(SAVED, field.name) in (None, "", ())}
    assert not unset
    assert decode(encode(SAVED)) == SAVED


def test_a_call_that_was_just_answered_survives() -> None:
    fresh = replace(SAVED, dialogue=DialogueState(), phase=Phase.TALKING, turn=None, action=None, first_audio_ms=None)
    assert decode(encode(fresh)) == fresh


@pytest.mark.parametrize("action", [ESCALATE, EndCall(reason="silence"), RunTool(tool="t", arguments={}), None])
def test_every_action_comes_back(action: Escalate | EndCall | RunTool | None) -> None:
    saved = decode(encode(replace(SAVED, action=SavedAction.of(action))))
    assert (saved.action.action if saved.action is not None else None) == action


def test_a_field_of_a_later_release_is_ignored() -> None:
    message = json.loads(encode(SAVED)) | {"mood": "cheerful"}
    assert decode(json.dumps(message).encode()) == SAVED


@pytest.mark.parametrize(
    "change",
    [
        {"version": VERSION + 1},
        {"version": None},
        {"next_seq": "three"},
        {"phase": "asleep"},
        {"dialogue": {"history": [{"caller": "my secret"}]}},
        {"action": {"escalate": None}},
        {"action": {"end_call": {"reason": "a"}, "run_tool": {"tool": "t", "arguments": {}}}},
    ],
)
def test_what_is_no_state_is_refused_without_its_words(change: dict[str, object]) -> None:
    message = json.loads(encode(SAVED)) | change
    with pytest.raises(CallStateInvalidError) as caught:
        decode(json.dumps(message).encode())
    assert "secret" not in str(caught.value)
    assert "José" not in str(caught.value)


@pytest.mark.parametrize("message", [b"", b"{", b"[]", b"null", b"\xff\xfe"])
def test_what_is_no_message_is_refused(message: bytes) -> None:
    with pytest.raises(CallStateInvalidError):
        decode(message)


def test_a_reply_that_is_on_record_was_heard() -> None:
    """The record was written and the state after it was not: the reply is not said again, its action still is done."""
    after = SAVED.after(3)
    assert after.turn is None
    assert after.action == SAVED.action
    assert SAVED.after(2) == SAVED
    assert replace(SAVED, action=None).after(3).action == SavedAction(
        run_tool=RunTool(tool="block", arguments={"card": "debit"})
    )
