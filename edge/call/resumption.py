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
from edge.conversation.dialogue import DialogueState, Escalate, Reply, RunTool, Speech
from edge.records.model import Adopted, CallRecord, TurnRecord
from edge.records.rows import EPOCH


class Resumer(Protocol):
    """What going on needs of a conversation."""

    def opening(self) -> Reply:
        """The greeting."""

    def resume(self, state: DialogueState) -> Reply:
        """The apology, and what the caller heard last or is asked."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Resumption:
    """A call that a dead worker had. `saved` is None where its state is not known: then the call begins anew."""

    adopted: Adopted
    saved: SavedCall | None
    is_with_human: bool

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
