"""Calls that a law keeps from being taken in this region: the caller is answered, told why, and let go.

Another region named this one as its backup, its carrier sends a call here, and a rule forbids to take it for this
tenant (docs/hub-and-regions.md, Regions that back each other). Nobody listens to the caller, nothing is kept of them.
"""

import asyncio
import contextlib
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import structlog

from contract.errors import BoroughError
from edge.call.ports import SAMPLE_RATE_HZ, HangupCause, LegClosed, MediaLeg, PlayoutReached, Priority, Purpose
from edge.call.slots import SlotLedger
from edge.observability.metrics import CallMetrics
from edge.speech.prepared import PreparedAudio
from edge.sync.backing import REFUSED_ANNOUNCEMENT, BackingBook, Refusal
from edge.telephony.inbound import InboundCall, InboundCalls

log = structlog.get_logger(__name__)

RESIDENCY = "residency"
# The caller hears it ring meanwhile; the first announcement of a node is synthesised in about a second.
SPOKEN_WITHIN_S = 5.0
# Beyond the announcement's own length, until Asterisk says that it was heard.
HEARD_WITHIN_S = 3.0
HEARD = "refused"
PIECE_BYTES = 2 * SAMPLE_RATE_HZ // 2


class LawRefusals(Protocol):
    """Who knows which calls may not be taken."""

    async def tell(self, inbound: InboundCalls, call: InboundCall) -> bool:
        """Whether a law refuses the call; its caller has been told then, or is gone."""


class NoLawRefusals:
    """Of a worker that no hub steers."""

    async def tell(self, inbound: InboundCalls, call: InboundCall) -> bool:
        del inbound, call
        return False


@dataclass(frozen=True, slots=True, kw_only=True)
class BackingRefusals:
    """By the backings of the bundle that lies at `bundle`, read when a number that nobody answers is called."""

    bundle: Path
    audio: PreparedAudio
    slots: SlotLedger
    metrics: CallMetrics

    async def tell(self, inbound: InboundCalls, call: InboundCall) -> bool:
        """See LawRefusals. A call for which there is no slot or no voice is refused before it is answered."""
        book = await asyncio.to_thread(BackingBook.read, self.bundle)
        refusal = book.refusal_of(call.called_number)
        if refusal is None:
            return False
        log.warning("call_refused_by_law", rule=refusal.rule, article=refusal.article, tenant=refusal.tenant)
        self.metrics.calls_refused.labels(reason=RESIDENCY).inc()
        with contextlib.ExitStack() as held:
            try:
                held.enter_context(self.slots.take(call.call_id))
                pcm = await self._announcement(call, refusal)
            except (BoroughError, TimeoutError) as error:
                log.warning("refusal_not_told", detail=type(error).__name__)
                await inbound.reject(call, HangupCause.NO_CIRCUIT)
                return True
            try:
                async with inbound.accept(call) as (leg, _):
                    await _play(leg, pcm)
            except BoroughError as error:
                log.info("refusal_not_heard", code=error.code)
        return True

    async def _announcement(self, call: InboundCall, refusal: Refusal) -> bytes:
        """Int16 mono at 16 kHz. Raises BoroughError and TimeoutError."""
        purpose = Purpose(tenant=refusal.tenant, call_id=call.call_id, priority=Priority.LIVE, budget_s=SPOKEN_WITHIN_S)
        async with asyncio.timeout(SPOKEN_WITHIN_S):
            speech = self.audio.speech(REFUSED_ANNOUNCEMENT, purpose, voice="")
            return b"".join([piece async for piece in speech])


async def _play(leg: MediaLeg, pcm: bytes) -> None:
    """Until it was heard, or the caller hangs up."""
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(len(pcm) / (2 * SAMPLE_RATE_HZ) + HEARD_WITHIN_S):
            for start in range(0, len(pcm), PIECE_BYTES):
                await leg.send(pcm[start : start + PIECE_BYTES])
            await leg.mark(HEARD)
            while not isinstance(event := await leg.receive(), LegClosed):
                if event == PlayoutReached(mark=HEARD):
                    return
