"""Goes on with the calls of a worker of this node that died.

Theory of operation. Death is told by the kernel (`edge.call.siblings`), and asked once when a worker starts, which may
be the dead worker's next life. Then, one worker at a time: the open calls of dead runs are read; each whose caller is
still on the line is adopted, which is a compare-and-set in the tenant's database, so that it has one owner whoever else
tries; the rest is ended in the records. A call over WebRTC cannot be adopted: its media was in the dead process.

An adopted call takes the slot again that the dead worker held, is moved to our Stasis app, gets audio of ours, and
goes on where its saved state stands (`edge.call.session`). What fails after the adoption ends the call and its record.

Asterisk may be slow at that moment, and its callers are still there: it is asked again until it answers, for
`ANSWERS_WITHIN_S`. Only where nobody listens at its port have all of them gone with it.
"""

import asyncio
import contextlib
import time
from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from functools import partial
from typing import TypeVar

import structlog

from contract.errors import BoroughError
from edge.call.errors import CallStateInvalidError, NoCapacityError, UnknownNumberError
from edge.call.ports import HangupCause
from edge.call.reception import Reception
from edge.call.resumption import Resumption, cut_off_turn
from edge.call.roster import ServedAgent
from edge.call.saved_call import CallStates, SavedCall, decode
from edge.call.siblings import Sibling
from edge.call.slots import Slot
from edge.conversation.dialogue import CallOutcome
from edge.observability.logs import bind_call
from edge.records.errors import RecordsError
from edge.records.model import Adopted, Orphan, Transport
from edge.records.orphans import WORKER_DIED, reason_of
from edge.records.subjects import names_somebody
from edge.telephony.adoption import StrandedCall
from edge.telephony.errors import AriRefusedError, CallerGoneError, TelephonyError
from edge.telephony.inbound import InboundCalls

log = structlog.get_logger(__name__)

# Who counts slots holds each for an instant; a caller must not be lost for that.
RETAKE_TRIES = 3
RETAKE_AGAIN_S = 0.02
# `borough-asterisk-pulse` ends an Asterisk that says nothing for so long.
ANSWERS_WITHIN_S = 15.0
ASK_AGAIN_S = 0.25
CALLER_GONE, ASTERISK_SILENT = "caller_gone", "asterisk_silent"
T = TypeVar("T")


@dataclass(frozen=True, slots=True, kw_only=True)
class _Adoption:
    """A call that is ours, on its way back to life. `died`: monotonic."""

    served: ServedAgent
    adopted: Adopted
    stranded: StrandedCall
    slot: Slot
    died: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Takeover:
    """Looks after the calls of dead workers. `inbound` is None on a node without Asterisk: nothing can be adopted."""

    states: CallStates
    reception: Reception
    inbound: InboundCalls | None
    tasks: asyncio.TaskGroup

    async def at_start(self) -> None:
        """Go on with what dead workers left, a former life of this one among them, and clear away the rest."""
        await self._look_after(app=None)
        if self.inbound is not None:
            others = {each.call_id for each in await self.states.open_calls()}
            try:
                await _patiently(partial(self.inbound.reconcile, spared=others))
            except TelephonyError as error:
                log.warning("not_reconciled", code=error.code, detail=str(error))

    async def sibling_died(self, sibling: Sibling) -> None:
        """Go on with its calls."""
        await self._look_after(app=sibling.app)

    async def _look_after(self, *, app: str | None) -> None:
        died = time.monotonic()
        if self.reception.closing.is_set():
            return
        try:
            async with self.states.sweeping():
                await self._sweep(died)
                # One sibling after the other: two would both be offered a caller who still rings.
                if app is not None and self.inbound is not None:
                    known = {each.call_id for each in await self.states.open_calls()}
                    await _patiently(partial(self.inbound.offer_unknown, app, known))
        except (BoroughError, OSError) as error:
            log.error("takeover_failed", kind=type(error).__name__, detail=str(error))  # noqa: TRY400
        self.reception.slots.forget_dead()

    async def _sweep(self, died: float) -> None:
        orphans = await self.states.orphans()
        sip = [each.call_id for each in orphans if each.transport is Transport.SIP]
        stranded, missing = await self._find_stranded(sip) if sip else ({}, CALLER_GONE)
        # Together: their records are one commit.
        await asyncio.gather(*(self._adopt(each, stranded.get(each.call_id), died, missing) for each in orphans))
        await self.states.close_orphans()

    async def _find_stranded(self, call_ids: Iterable[str]) -> tuple[dict[str, StrandedCall], str]:
        """Who is still there, and what it means for the others."""
        if self.inbound is None:
            return {}, CALLER_GONE
        try:
            return await _patiently(partial(self.inbound.find_stranded, call_ids)), CALLER_GONE
        except TelephonyError as error:
            log.error("stranded_unknown", code=error.code, detail=str(error))  # noqa: TRY400
            return {}, CALLER_GONE if isinstance(error, AriRefusedError) else ASTERISK_SILENT

    async def _adopt(self, orphan: Orphan, stranded: StrandedCall | None, died: float, missing: str) -> None:
        if stranded is None:
            await self._end(orphan, None, missing if orphan.transport is Transport.SIP else "webrtc")
            return
        try:
            served = self.reception.roster.current.by_name(f"{orphan.tenant}/{orphan.agent}")
            slot = await self._retake(orphan.call_id)
            adopted = await self.states.adopt(orphan, goes_on=True)
        except UnknownNumberError:
            await self._end(orphan, stranded, "unknown_agent")
        except NoCapacityError:
            await self._end(orphan, stranded, "no_capacity")
        except RecordsError as error:
            slot.release()
            await self._end(orphan, stranded, error.code)
        else:
            if adopted is None:  # another was faster, or it ended meanwhile
                slot.release()
                return
            adoption = _Adoption(served=served, adopted=adopted, stranded=stranded, slot=slot, died=died)
            self.tasks.create_task(self._go_on(adoption), name=f"call:{orphan.call_id}")

    async def _retake(self, call_id: str) -> Slot:
        """The slot of a dead worker's call. Raises NoCapacityError."""
        for _ in range(RETAKE_TRIES):
            with contextlib.suppress(NoCapacityError):
                return self.reception.slots.retake(call_id)
            await asyncio.sleep(RETAKE_AGAIN_S)
        return self.reception.slots.retake(call_id)

    async def _end(self, orphan: Orphan, stranded: StrandedCall | None, reason: str) -> None:
        """End a call that cannot go on, with the turn that was under way on record; its caller is let go."""
        self.reception.metrics.adoptions_refused.labels(reason=reason).inc()
        log.warning("adoption_refused", call_id=orphan.call_id, tenant=orphan.tenant, reason=reason)
        try:
            adopted = await self.states.adopt(orphan, goes_on=False)
        except RecordsError as error:  # it stays open, for the next start
            log.warning("orphan_not_ended", call_id=orphan.call_id, code=error.code)
            adopted = None
        if adopted is not None:
            self._close(adopted, CallOutcome.FAILED, adopted.last_known_at, reason_of(orphan.run))
        if stranded is not None and self.inbound is not None:
            await self.inbound.let_go(stranded)

    async def _go_on(self, adoption: _Adoption) -> None:
        """Carry the call to its end. Whatever breaks before it is carried ends it in the records."""
        call, inbound, metrics = adoption.adopted.call, self.inbound, self.reception.metrics
        assert inbound is not None
        bind_call(call_id=call.call_id, tenant=call.tenant)
        saved, is_carried = _read(adoption.adopted), False
        with adoption.slot:
            try:
                async with inbound.adopt(adoption.stranded) as (leg, control):
                    is_with_human = adoption.stranded.human_id is not None
                    phase = _phase(saved, is_with_human=is_with_human)
                    took_s = time.monotonic() - adoption.died
                    metrics.adoption.observe(took_s)
                    metrics.calls_adopted.labels(phase=phase).inc()
                    log.warning("call_adopted", phase=phase, took_ms=round(1000 * took_s))
                    is_carried = True
                    resumption = Resumption(
                        adopted=adoption.adopted,
                        saved=saved,
                        is_with_human=is_with_human,
                        is_known=names_somebody(adoption.stranded.channel.caller_number),
                    )
                    await self.reception.go_on(adoption.served, call, leg, control, resumption)
            except BoroughError as error:
                log.warning("adoption_broke", code=error.code, detail=str(error))
                self._broke(adoption, is_carried=is_carried, is_gone=isinstance(error, CallerGoneError))
            except Exception:
                # Ours are running, and a sibling that went on with all of them would meet this one again.
                log.exception("adoption_broke")
                self._broke(adoption, is_carried=is_carried, is_gone=False)

    def _broke(self, adoption: _Adoption, *, is_carried: bool, is_gone: bool) -> None:
        if is_carried:
            return
        self.reception.metrics.adoptions_refused.labels(reason=CALLER_GONE if is_gone else "setup_failed").inc()
        outcome = CallOutcome.ABANDONED if is_gone else CallOutcome.FAILED
        self._close(adoption.adopted, outcome, datetime.now(UTC))

    def _close(self, adopted: Adopted, outcome: CallOutcome, at: datetime, reason: str = WORKER_DIED) -> None:
        saved = _read(adopted)
        cut_off = None if saved is None else saved.after(adopted.next_seq).turn
        if cut_off is not None:
            turn = cut_off_turn(adopted.call, cut_off)
            self.reception.keep(turn)
            at = max(at, turn.began_at)
        cause = HangupCause.NORMAL if outcome is CallOutcome.ABANDONED else HangupCause.TEMPORARY_FAILURE
        ended = replace(adopted.call, ended_at=at, outcome=outcome, hangup_cause=cause, reason=reason)
        self.reception.keep(ended)


async def _patiently(ask: Callable[[], Awaitable[T]]) -> T:
    """Ask Asterisk until it answers. Raises TelephonyError when it is gone, or silent for too long."""
    deadline = time.monotonic() + ANSWERS_WITHIN_S
    while True:
        try:
            return await ask()
        except TelephonyError as error:
            if isinstance(error, AriRefusedError) or time.monotonic() > deadline:
                raise
            log.warning("asterisk_asked_again", code=error.code, detail=str(error))
        await asyncio.sleep(ASK_AGAIN_S)


def _read(adopted: Adopted) -> SavedCall | None:
    if adopted.state is None:
        return None
    try:
        return decode(adopted.state)
    except CallStateInvalidError as error:
        log.error("state_invalid", detail=str(error))  # noqa: TRY400
        return None


def _phase(saved: SavedCall | None, *, is_with_human: bool) -> str:
    """What the call was at, for the metrics."""
    if is_with_human:
        return "with_human"
    if saved is None:
        return "unknown"
    if saved.action is not None:
        return "tool" if saved.action.run_tool is not None else "transferring"
    return "listening" if saved.turn is None else "speaking"
