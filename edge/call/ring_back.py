"""Recognises a caller whose call was cut off, on whichever node of the region the caller rings back.

Theory of operation. Before a call is answered the region's bucket is asked for calls of the same number to the same
tenant. That costs a caller at most `LOOKS` times `LOOK_WITHIN_S` of ringing, nothing where NATS is known to be away,
and a few milliseconds on a healthy node. One call may be gone on with: one that we cut off, or one that stands open and
whose worker says nothing. The worker is asked: a living one answers at once; the server says at once that there is
none; a machine that lost power says nothing, and two unanswered pings later the server knows that, too.

Then the entry is claimed by compare-and-set: of all who try one gets it, and with the claim the words of the old call
are gone from the bucket. While the region elects a leader, up to nine seconds after it lost a node, nothing can be
claimed. A caller who is that fast hears it ring: first because the call is not answered yet, which the front door bears
for a few seconds, then because we play the tone.

Nothing is resumed where more than one call of the number could be meant: the number is a house's, and what one person
said is not for another.
"""

import asyncio
import time
from collections.abc import Coroutine, Sequence
from dataclasses import dataclass
from typing import Protocol

import nats.errors
import structlog

from contract.subjects import session_owner, session_resumed
from edge.call.errors import CallStateInvalidError
from edge.call.resumption import RingBack
from edge.call.saved_call import Phase, SavedCall, decode
from edge.call.session_entry import EntryStatus, SessionEntry, SessionPlace, SessionSeal
from edge.call.session_store import SessionStore, StoredSession
from edge.observability.metrics import CallMetrics
from edge.records.subjects import SubjectId
from edge.sync.connection import NATS_ERRORS

log = structlog.get_logger(__name__)

LOOK_WITHIN_S = 0.05
LOOKS = 3
# Of a worker, whose loop is late by milliseconds at the rated load. Only who may be ringing back waits for it.
OWNER_WITHIN_S = 0.3
# Before the answer: the front door gives a node 4 s for all of it (front_door_answer_timeout_ms).
CLAIM_WITHIN_S = 1.5
# After it: a leader that is gone is missed after 4 to 9 s.
LATE_CLAIM_WITHIN_S = 9.0
CLAIM_ATTEMPT_S = 0.5
CLAIM_AGAIN_S = 0.1
GIVE_BACK_WITHIN_S = 1.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Wanted:
    """A call that may be a ring-back."""

    call_id: str
    tenant: str
    agent: str
    subject_id: SubjectId
    window_s: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Claimed:
    """A ring-back, and what it takes to give it back to the region."""

    ring_back: RingBack
    place: SessionPlace
    value: bytes
    revision: int
    ttl_s: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Unclaimed:
    """A call to go on with that could not be claimed yet: the region elects a leader."""

    wanted: Wanted
    stored: StoredSession
    entry: SessionEntry
    saved: SavedCall


class RingBacks(Protocol):
    """Where calls that were cut off wait for their callers."""

    async def take_up(self, wanted: Wanted) -> Claimed | Unclaimed | None:
        """The call that this caller was cut off from, for this call alone to go on with; None for all other calls."""

    async def claim_late(self, unclaimed: Unclaimed) -> Claimed | None:
        """Wait for the region, for some seconds; None where it does not come back or another call was faster."""

    async def give_back(self, claimed: Claimed) -> None:
        """The caller hung up before the answer, and may ring again."""


class NoRingBacks:
    """A node on its own: nobody is recognised."""

    async def take_up(self, wanted: Wanted) -> Claimed | Unclaimed | None:  # noqa: ARG002
        """Nothing was cut off."""
        return None

    async def claim_late(self, unclaimed: Unclaimed) -> Claimed | None:  # noqa: ARG002
        """Never reached."""
        return None

    async def give_back(self, claimed: Claimed) -> None:
        """Never reached."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RegionRingBacks:
    """RingBacks over the region's bucket of sessions."""

    store: SessionStore
    seal: SessionSeal
    metrics: CallMetrics

    async def take_up(self, wanted: Wanted) -> Claimed | Unclaimed | None:
        """See RingBacks. Never raises, and waits no longer than the deadlines above."""
        if not self.store.is_up:
            self._count("away")
            return None
        return await self._sheltered(self._take_up(wanted))

    async def claim_late(self, unclaimed: Unclaimed) -> Claimed | None:
        """See RingBacks. Never raises."""
        result = await self._sheltered(self._claim(unclaimed, LATE_CLAIM_WITHIN_S))
        if isinstance(result, Unclaimed):
            self._count("not_claimed")
            return None
        return result

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
        candidate = await self._only_one(wanted, found)
        return None if candidate is None else await self._claim(candidate, CLAIM_WITHIN_S)

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
        if candidate.entry.status is EntryStatus.OPEN and await self._owner_answers(candidate.entry):
            self._count("still_running")
            return None
        if not _may_go_on(candidate.saved, wanted):
            self._count("was_over")
            return None
        return candidate

    def _unfinished(self, wanted: Wanted, stored: StoredSession) -> Unclaimed | None:
        entry = self.seal.entry_of(stored.place, stored.value)
        if entry is None or entry.status is EntryStatus.RESUMED or _age_s(entry) > wanted.window_s:
            return None
        try:
            saved = decode(entry.state.encode())
        except CallStateInvalidError:
            return None
        return Unclaimed(wanted=wanted, stored=stored, entry=entry, saved=saved)

    async def _owner_answers(self, entry: SessionEntry) -> bool:
        """Whether the worker that has the call lives: then the call runs, or ended as calls end."""
        client = self.store.link.client
        try:
            await client.request(session_owner(entry.run), b"", timeout=OWNER_WITHIN_S)
        except NATS_ERRORS:
            return False
        return True

    async def _claim(self, unclaimed: Unclaimed, within_s: float) -> Claimed | Unclaimed | None:
        """Make the old call this one's, which one alone can; itself where the region takes no writes now."""
        wanted, stored, until = unclaimed.wanted, unclaimed.stored, time.monotonic() + within_s
        mark = self.seal.seal(stored.place, unclaimed.entry.resumed(wanted.call_id))
        while (left_s := until - time.monotonic()) > 0:
            try:
                revision = await self.store.replace(
                    stored.place, mark, stored.revision, ttl_s=0, within_s=min(left_s, CLAIM_ATTEMPT_S)
                )
                if revision is None:
                    revision = await self._revision_if_ours(wanted, stored.place, left_s)
            except NATS_ERRORS:
                await asyncio.sleep(CLAIM_AGAIN_S)
                continue
            if revision is None:
                self._count("taken_by_another")
                return None
            return await self._claimed(unclaimed, revision)
        return unclaimed

    async def _revision_if_ours(self, wanted: Wanted, place: SessionPlace, left_s: float) -> int | None:
        """The answer to an earlier attempt may have been lost. Raises NATS_ERRORS."""
        there = await self.store.newest(place, within_s=min(left_s, CLAIM_ATTEMPT_S))
        entry = None if there is None else self.seal.entry_of(place, there.value)
        if there is None or entry is None or entry.resumed_as != wanted.call_id:
            return None
        return there.revision

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


def _may_go_on(saved: SavedCall, wanted: Wanted) -> bool:
    """Whether there is something left to say: the caller was neither with a human nor being said goodbye to."""
    is_goodbye = saved.turn is not None and saved.turn.action is not None and saved.turn.action.end_call is not None
    is_same_agent = (saved.tenant, saved.agent) == (wanted.tenant, wanted.agent)
    return is_same_agent and saved.phase is not Phase.WITH_HUMAN and not is_goodbye


def _age_s(entry: SessionEntry) -> float:
    return time.time() - entry.saved_ms / 1000
