"""Going on with a call that another worker had: what is said first, and what is done again. Pure.

A reply that was being said is said again, from its beginning, in its own turn: how much of it was heard died with the
worker. A transfer or a tool that was under way begins again, the tool as the same act. Else the caller hears what they
heard last, or the question that is open.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import timedelta
from typing import Protocol

from edge.call.saved_call import Phase, SavedAction, SavedCall, SavedTurn
from edge.call.turn import Turn
from edge.conversation.dialogue import DialogueState, Escalate, PendingKind, Reply, RunTool, Speech
from edge.records.model import Adopted, CallRecord, TurnRecord
from edge.records.rows import EPOCH

CONSENT_NONE, CONSENT_CARRIED, CONSENT_ASKED = "none", "carried", "asked"


class Resumer(Protocol):
    """What going on needs of a conversation."""

    def opening(self) -> Reply:
        """The greeting."""

    def resume(self, state: DialogueState) -> Reply:
        """The apology, and what the caller heard last or is asked."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Resumption:
    """A call that a dead worker had. `saved` is None where its state is not known: then the call begins anew. Who is
    known has a number, and may ring back."""

    adopted: Adopted
    saved: SavedCall | None
    is_with_human: bool
    is_known: bool

    @property
    def current(self) -> SavedCall | None:
        """The state, as far as the records have not got further."""
        return None if self.saved is None else self.saved.after(self.adopted.next_seq)

    @property
    def unrecorded_transfer(self) -> Escalate | None:
        """The transfer that connected caller and human just before the worker died."""
        saved = self.current
        if saved is None or saved.phase is not Phase.TRANSFERRING or saved.action is None:
            return None
        return saved.action.escalate


class Welcomer(Protocol):
    """What going on in another call needs of a conversation."""

    def opening(self) -> Reply:
        """The greeting, with the question for consent if there is one."""

    def restored(self, state: DialogueState) -> DialogueState:
        """The state as far as today's documents know it."""

    def welcome_back(self, state: DialogueState, unheard: tuple[Speech, ...] = ()) -> Reply:
        """What a caller hears who was cut off and rings back; asks for consent where it must be given anew."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RingBack:
    """The call that a caller was cut off from, to be gone on with in this one. `node` had it."""

    call_id: str
    node: str
    saved: SavedCall


@dataclass(frozen=True, slots=True, kw_only=True)
class FirstWords:
    """What the caller hears first. `turn` is the one that the reply belongs to, None for a new one; `tool` runs again
    while it is said."""

    reply: Reply
    is_protected: bool = False
    turn: SavedTurn | None = None
    tool: RunTool | None = None


def first_words(conversation: Resumer, saved: SavedCall | None) -> FirstWords:
    """The words for a call that stood so."""
    sorry = conversation.resume(DialogueState()).speeches
    if saved is None:
        opening = conversation.opening()
        reply = replace(opening, speeches=(*sorry, *opening.speeches))
        # A partially heard prompt is not consent.
        return FirstWords(reply=reply, is_protected=opening.state.pending is not None)
    if saved.turn is not None:
        reply = saved.turn.reply(saved.dialogue)
        speeches = (*sorry, *_without(reply.speeches, sorry))
        return FirstWords(
            reply=replace(reply, speeches=speeches),
            is_protected=saved.turn.is_protected,
            turn=saved.turn,
            tool=_tool(saved.turn.action),
        )
    reply = conversation.resume(saved.dialogue)
    if saved.action is None:
        return FirstWords(reply=reply)
    return FirstWords(reply=replace(reply, speeches=sorry, action=saved.action.action), tool=_tool(saved.action))


def welcome(conversation: Welcomer, ring_back: RingBack) -> tuple[FirstWords, str]:
    """The words for a caller who rings back, and what becomes of the consent given in the old call.

    Where consent is asked anew nothing else is done before it is given.
    """
    saved = ring_back.saved
    unheard = () if saved.turn is None else saved.turn.speeches
    state = conversation.restored(saved.dialogue)
    reply = conversation.welcome_back(state, unheard)
    if reply.state.pending is not None and reply.state.pending.kind is PendingKind.CONSENT:
        return FirstWords(reply=reply, is_protected=True), CONSENT_ASKED
    # A flow that the documents no more have would not know what to do with a tool's answer.
    action = (saved.turn.action if saved.turn is not None else None) or saved.action
    action = None if action is not None and state.flow != saved.dialogue.flow else action
    words = FirstWords(
        reply=replace(reply, action=action.action if action is not None else None),
        is_protected=action is not None and action.escalate is not None,
        tool=_tool(action),
    )
    return words, CONSENT_NONE if conversation.opening().state.has_consent else CONSENT_CARRIED


def cut_off_turn(call: CallRecord, turn: SavedTurn) -> TurnRecord:
    """What is known of a committed turn whose reply nobody can bring to its end: what was heard of it is not."""
    return TurnRecord(
        call_id=call.call_id,
        tenant=call.tenant,
        subject_id=call.subject_id,
        seq=turn.seq,
        began_at=EPOCH + timedelta(milliseconds=turn.began_ms),
        caller_text=turn.caller_text,
        agent_text="",
        intent=turn.understanding.intent,
        confidence=turn.understanding.confidence,
        was_interrupted=True,
    )


def saved_turn(turn: Turn | None, began_ms: Callable[[float], int]) -> SavedTurn | None:
    """The turn as it is saved; `began_ms` tells the time of day of a moment on the monotonic clock."""
    if turn is None:
        return None
    return SavedTurn(
        seq=turn.seq,
        began_ms=began_ms(turn.began),
        caller_text=turn.caller_text,
        understanding=turn.reply.understanding,
        speeches=turn.reply.speeches,
        action=SavedAction.of(turn.reply.action),
        is_protected=turn.is_protected,
    )


def _tool(action: SavedAction | None) -> RunTool | None:
    return action.run_tool if action is not None else None


def _without(speeches: tuple[Speech, ...], sorry: tuple[Speech, ...]) -> tuple[Speech, ...]:
    """Who is cut off twice hears one apology."""
    texts = {speech.text for speech in sorry}
    return tuple(speech for speech in speeches if speech.text not in texts)
