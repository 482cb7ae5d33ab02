"""Recognises a caller whose call was cut off, on whichever node of the region the caller rings back.

Theory of operation. Before a call is answered the region's bucket is asked for calls of the same number to the same
tenant. That costs a caller at most `LOOKS` times `LOOK_WITHIN_S` of ringing, nothing where NATS is known to be away,
and a few milliseconds on a healthy node. One call may be gone on with: one that we cut off, or one that stands open and
was lost. Whether it was is asked of its node (edge/call/owner.py), and costs up to 0.9 s where that says nothing. Where
the node says nothing and may live, its call may run: then this is another call, or another person at the same number.

Then the entry is claimed by compare-and-set: of all who try one gets it, and with the claim the words of the old call
are gone from the bucket. While the region elects a leader, up to nine seconds after it lost a node, nothing can be
claimed. A caller who is that fast hears it ring: first because the call is not answered yet, which the front door bears
for a few seconds, then because we play the tone.

Nothing is resumed where more than one call of the number could be meant: the number is a house's, and what one person
said is not for another.
"""

import asyncio
import contextlib
import time
from collections.abc import Awaitable, Callable, Coroutine, Sequence
from dataclasses import dataclass

import nats.errors
import structlog

from contract.errors import BoroughError
from contract.subjects import session_resumed
from edge.call.errors import CallStateInvalidError
from edge.call.owner import Fate, Owners
from edge.call.resumption import RingBack
from edge.call.ring_back import Claimed, Unclaimed, Wanted, for_ever
from edge.call.saved_call import Phase, SavedCall, decode
from edge.call.session_entry import EntryStatus, SessionEntry, SessionSeal
from edge.call.session_store import SessionStore, StoredSession
from edge.observability.metrics import CallMetrics
from edge.sync.connection import NATS_ERRORS

log = structlog.get_logger(__name__)

LOOK_WITHIN_S = 0.05
LOOKS = 3
# Asking for the owner and claiming, before the answer: the front door gives a node 4 s for all of it
# (front_door_answer_timeout_ms).
BEFORE_ANSWER_S = 2.0
# After it: a leader that is gone is missed after 4 to 9 s.
LATE_CLAIM_WITHIN_S = 9.0
IS_OVER_FOR_S = 2.0
CLAIM_ATTEMPT_S = 0.5
CLAIM_AGAIN_S = 0.1
GIVE_BACK_WITHIN_S = 1.0
# Why a call that stands open is not gone on with.
_RESULTS = {Fate.RUNS: "still_running", Fate.UNKNOWN: "may_run", Fate.ENDED: "was_over"}


@dataclass(frozen=True, slots=True, kw_only=True)
class RegionRingBacks:
    """RingBacks over the region's bucket of sessions."""

    store: SessionStore
    seal: SessionSeal
    owners: Owners
    metrics: CallMetrics

    async def take_up(self, wanted: Wanted) -> Claimed | Unclaimed | None:
        """See RingBacks. Never raises, and waits no longer than the deadlines above."""
        if not self.store.is_up:
            self._count("away")
            return None
        return await self._sheltered(self._take_up(wanted))

    async def claim_late(self, unclaimed: Unclaimed, ended: Callable[[], Awaitable[None]] = for_ever) -> Claimed | None:
        """See RingBacks. Never raises."""
        gone, until = asyncio.Event(), time.monotonic() + LATE_CLAIM_WITHIN_S
        async with asyncio.TaskGroup() as tasks:
            leaving = tasks.create_task(_set_after(ended, gone), name=f"call:{unclaimed.wanted.call_id}:leaving")
            result = await self._sheltered(self._claim_while_over(unclaimed, until, gone))
            leaving.cancel()
        if gone.is_set():
            await self._leave(result)
            return None
        if isinstance(result, Unclaimed):
            self._count("not_claimed")
            return None
        return result

    async def _claim_while_over(
        self, unclaimed: Unclaimed, until: float, gone: asyncio.Event
    ) -> Claimed | Unclaimed | None:
        """Claim it, and ask every now and then whether it still counts as over: its node may be back, and have it."""
        result: Claimed | Unclaimed | None = unclaimed
        while isinstance(result, Unclaimed) and time.monotonic() < until and not gone.is_set():
            if not await self._is_over(result):
                return None
            result = await self._claim(result, min(until, time.monotonic() + IS_OVER_FOR_S), gone)
        return result

    async def _leave(self, result: Claimed | Unclaimed | None) -> None:
        """The caller is gone: what was claimed, or may have been by an answer that was lost, is given back."""
        if isinstance(result, Unclaimed):
            result = await self._sheltered(self._claimed_unheard(result))
        if isinstance(result, Claimed):
            await self.give_back(result)

    async def _sheltered(self, work: Coroutine[None, None, Claimed | Unclaimed | None]) -> Claimed | Unclaimed | None:
        try:
            return await work
        except Exception as error:  # noqa: BLE001 - a call is answered whatever is wrong with the region
            log.error("ring_back_broke", kind=type(error).__name__)  # noqa: TRY400 - its text may quote what was said
            self._count("broken")
            return None

    async def _take_up(self, wanted: Wanted) -> Claimed | Unclaimed | None:
        began = time.monotonic()
        found = await self._look(wanted)
        self.metrics.ring_back_look.observe(time.monotonic() - began)
        until = time.monotonic() + BEFORE_ANSWER_S
        candidate = await self._only_one(wanted, found)
        return None if candidate is None else await self._claim(candidate, until)

    async def _look(self, wanted: Wanted) -> Sequence[StoredSession]:
        """What the region knows of the caller's calls."""
        for _ in range(LOOKS):
            try:
                return await self.store.all_of(wanted.tenant, wanted.subject_id, within_s=LOOK_WITHIN_S)
            except NATS_ERRORS:
                continue
        self._count("late")
        return ()

    async def give_back(self, claimed: Claimed) -> None:
        """See RingBacks. Never raises."""
        try:
            await self.store.replace(
                claimed.place, claimed.value, claimed.revision, ttl_s=claimed.ttl_s, within_s=GIVE_BACK_WITHIN_S
            )
        except NATS_ERRORS:
            self._count("not_given_back")

    async def _only_one(self, wanted: Wanted, found: Sequence[StoredSession]) -> Unclaimed | None:
        """The one call that may be gone on with."""
        unfinished = [each for stored in found if (each := self._unfinished(wanted, stored)) is not None]
        if not unfinished:
            return None
        if len(unfinished) > 1:
            self._count("several_calls")
            return None
        (candidate,) = unfinished
        return candidate if await self._is_over(candidate) else None

    async def _is_over(self, candidate: Unclaimed) -> bool:
        """Whether the call ended, and may be gone on with."""
        fate = Fate.CUT_OFF
        if candidate.entry.status is EntryStatus.OPEN:
            fate = await self.owners.fate(candidate.stored.place, candidate.entry)
        if fate in _RESULTS:
            self._count(_RESULTS[fate])
            return False
        if not _may_go_on(candidate.saved, candidate.wanted):
            self._count("was_over")
            return False
        return True

    def _unfinished(self, wanted: Wanted, stored: StoredSession) -> Unclaimed | None:
        entry = self.seal.entry_of(stored.place, stored.value)
        if entry is None or entry.status is EntryStatus.RESUMED or _age_s(entry) > wanted.window_s:
            return None
        try:
            saved = decode(entry.state.encode())
        except CallStateInvalidError:
            return None
        return Unclaimed(wanted=wanted, stored=stored, entry=entry, saved=saved)

    async def _claim(
        self, unclaimed: Unclaimed, until: float, gone: asyncio.Event | None = None
    ) -> Claimed | Unclaimed | None:
        """Make the old call this one's, which one alone can. Itself where the region takes no writes until then, or
        once the caller is gone; as it stands now where what was read of it was an old copy."""
        while (left_s := until - time.monotonic()) > 0 and not (gone is not None and gone.is_set()):
            within_s = min(left_s, CLAIM_ATTEMPT_S)
            try:
                revision = await self._mark(unclaimed, within_s)
                there = (
                    None if revision is not None else await self.store.newest(unclaimed.stored.place, within_s=within_s)
                )
            except NATS_ERRORS:
                await asyncio.sleep(CLAIM_AGAIN_S)
                continue
            if revision is not None:
                return await self._claimed(unclaimed, revision)
            # The answer to an earlier attempt may have been lost.
            if there is not None and self._is_ours(unclaimed, there):
                return await self._claimed(unclaimed, there.revision)
            newer = None if there is None else self._unfinished(unclaimed.wanted, there)
            if newer is None:
                self._count("taken_by_another")
            return newer
        return unclaimed

    async def _mark(self, unclaimed: Unclaimed, within_s: float) -> int | None:
        """The revision of our mark, None where another value stands there. Raises NATS_ERRORS."""
        place = unclaimed.stored.place
        mark = self.seal.seal(place, unclaimed.entry.resumed(unclaimed.wanted.call_id))
        return await self.store.replace(place, mark, unclaimed.stored.revision, ttl_s=0, within_s=within_s)

    def _is_ours(self, unclaimed: Unclaimed, there: StoredSession) -> bool:
        entry = self.seal.entry_of(there.place, there.value)
        return entry is not None and entry.resumed_as == unclaimed.wanted.call_id

    async def _claimed_unheard(self, unclaimed: Unclaimed) -> Claimed | None:
        with contextlib.suppress(*NATS_ERRORS):
            there = await self.store.newest(unclaimed.stored.place, within_s=GIVE_BACK_WITHIN_S)
            if there is not None and self._is_ours(unclaimed, there):
                return await self._claimed(unclaimed, there.revision)
        return None

    async def _claimed(self, unclaimed: Unclaimed, revision: int) -> Claimed:
        entry, wanted = unclaimed.entry, unclaimed.wanted
        self._count("resumed")
        log.info("call_resumed", resumes=entry.call_id, from_node=entry.node, as_call=wanted.call_id)
        try:
            await self.store.link.client.publish(session_resumed(entry.node), b"")
        except nats.errors.Error:
            # It looks itself when it starts.
            log.debug("node_not_told", node=entry.node)
        return Claimed(
            ring_back=RingBack(call_id=entry.call_id, node=entry.node, saved=unclaimed.saved),
            place=unclaimed.stored.place,
            value=unclaimed.stored.value,
            revision=revision,
            ttl_s=max(1.0, wanted.window_s - _age_s(entry)),
        )

    def _count(self, result: str) -> None:
        self.metrics.ring_backs.labels(result=result).inc()


async def _set_after(ended: Callable[[], Awaitable[None]], gone: asyncio.Event) -> None:
    """A leg that cannot be waited for is gone."""
    with contextlib.suppress(BoroughError):
        await ended()
    gone.set()


def _may_go_on(saved: SavedCall, wanted: Wanted) -> bool:
    """Whether there is something left to say: the caller was not being said goodbye to, nor with a human, unless it is
    known with whom: then they are connected again."""
    is_goodbye = saved.turn is not None and saved.turn.action is not None and saved.turn.action.end_call is not None
    is_same_agent = (saved.tenant, saved.agent) == (wanted.tenant, wanted.agent)
    has_human = saved.action is not None and saved.action.escalate is not None
    return is_same_agent and (saved.phase is not Phase.WITH_HUMAN or has_human) and not is_goodbye


def _age_s(entry: SessionEntry) -> float:
    return time.time() - entry.saved_ms / 1000
