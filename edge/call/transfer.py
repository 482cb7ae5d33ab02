"""Putting a caller through to a human: the human is briefed in a whisper while the caller hears it ring."""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass

import structlog

from edge.call.hold import play_ringing
from edge.call.inbox import TransferFinished
from edge.call.ports import CallControl, MediaLeg, Purpose
from edge.call.preparation import Preparer
from edge.conversation.dialogue import DialogueState, Escalate, Reply, Speech, SpeechSource, Understanding

log = structlog.get_logger(__name__)

RING_S = 25.0
SORRY_STUCK = "I'm sorry, I have a technical problem. Let me get someone to help you."


@dataclass(frozen=True, slots=True, kw_only=True)
class Transfer:
    """One attempt. `now` is the call's monotonic clock, in seconds."""

    action: Escalate
    leg: MediaLeg
    control: CallControl
    preparer: Preparer
    now: Callable[[], float]

    async def run(self, purpose: Purpose) -> TransferFinished:
        """Return once the human has the caller, or cannot be had within RING_S."""
        began = self.now()
        whisper = await self._whisper(purpose)
        async with asyncio.TaskGroup() as ringing:
            tone = ringing.create_task(play_ringing(self.leg), name=f"call:{purpose.call_id}:ringing")
            outcome = await self.control.transfer(self.action.destination, whisper=whisper, timeout_s=RING_S)
            tone.cancel()
        return TransferFinished(outcome=outcome, took_s=self.now() - began)

    async def _whisper(self, purpose: Purpose) -> list[bytes]:
        """The briefing as audio; without it where it cannot be made: a caller is put through all the same."""
        try:
            speech = self.preparer.audio.speech(self.action.briefing, purpose, voice=self.preparer.voice)
            return [piece async for piece in speech]
        except Exception:
            log.warning("briefing_failed", exc_info=True)
            return []


def technical_problem(state: DialogueState, *, human: str) -> Reply:
    """Apologise for an answer that will not come, and have the caller put through to `human`."""
    return Reply(
        state=state,
        understanding=Understanding(intent="technical_problem", confidence=0.0),
        speeches=(Speech(text=SORRY_STUCK, source=SpeechSource.TEMPLATE),),
        is_complete=True,
        action=Escalate(
            reason="technical_problem",
            destination=human,
            briefing="A caller had a technical problem with the assistant.",
            summary={"reason": "technical_problem", "turns": len(state.history)},
        ),
    )
