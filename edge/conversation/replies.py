"""What every part of a conversation works with: the turn it answers, and how a reply is put together."""

from dataclasses import dataclass, replace
from datetime import date

from edge.call.ports import Priority, Purpose
from edge.conversation import hearing
from edge.conversation.agent import Agent
from edge.conversation.dialogue import (
    Action,
    AnswerKind,
    DialogueState,
    Exchange,
    Expectation,
    Reply,
    Speech,
    SpeechSource,
    Understanding,
)
from edge.conversation.handover import hand_over
from edge.knowledge.items import Item

YES_NO = Expectation(kind=AnswerKind.YES_NO)
# Replies that need no model.
NOBODY = Purpose(tenant="", call_id="", priority=Priority.SHADOW, budget_s=0.0)


@dataclass(frozen=True, slots=True, kw_only=True)
class Turn:
    """One thing heard in one state."""

    state: DialogueState
    heard: str
    purpose: Purpose
    today: date


class Replies:
    """Makes the replies of one agent: keeps the history and names what is done next."""

    def __init__(self, agent: Agent) -> None:
        self._agent = agent

    def reply(
        self,
        turn: Turn,
        state: DialogueState,
        speeches: tuple[Speech, ...],
        understanding: Understanding,
        *,
        is_complete: bool = True,
        action: Action | None = None,
    ) -> Reply:
        """Return the reply that leaves the conversation in `state`, with this turn in its history."""
        said = " ".join(speech.text for speech in speeches)
        exchange = Exchange(caller=turn.heard, agent=said, intent=understanding.intent)
        after = replace(state, history=(*turn.state.history, exchange), last_speech=said or state.last_speech)
        whole = is_complete and bool(speeches) and not _waits_for_more(turn, understanding)
        return Reply(state=after, understanding=understanding, speeches=speeches, is_complete=whole, action=action)

    def escalate(
        self,
        turn: Turn,
        state: DialogueState,
        reason: str,
        understanding: Understanding,
        *texts: str,
        is_complete: bool = True,
    ) -> Reply:
        """Return the reply that hands over to a human, with what the agent has to say first."""
        action = hand_over(self._agent, state, reason, turn.heard)
        spoken = texts or (self._agent.phrases.escalating,)
        outside = left(state)
        return self.reply(turn, outside, templates(*spoken), understanding, is_complete=is_complete, action=action)


def templates(*texts: str) -> tuple[Speech, ...]:
    """Return sentences as they are written in the agent's documents."""
    return tuple(Speech(text=text, source=SpeechSource.TEMPLATE) for text in texts)


def certain(intent: str, confidence: float = 1.0) -> Understanding:
    """Return an understanding that needed no model."""
    return Understanding(intent=intent, confidence=confidence)


def item_slot(item: Item | None) -> dict[str, str]:
    """Return the slot that names the item of an understanding."""
    return {"item": item.id} if item is not None else {}


def left(state: DialogueState) -> DialogueState:
    """Return the state outside any flow."""
    return replace(state, flow=None, step=0, slots={}, pending=None, expectation=Expectation(), misunderstandings=0)


def _waits_for_more(turn: Turn, understanding: Understanding) -> bool:
    """Whether the words break off although they were understood: "I want to book a repair for my"."""
    is_answer = understanding.intent.startswith("slot:") or understanding.intent in {"yes", "no", "consent_given"}
    return bool(turn.heard) and not is_answer and hearing.is_fragment(turn.heard)
