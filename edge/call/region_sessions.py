"""Tells the region where the calls of this worker stand, behind the calls' backs: no turn waits for NATS.

Theory of operation. A session hands over each newest state and goes on. What waits is one state a call, the newest; so
NATS away for an hour costs one state a call of memory, and when it comes back the newest is told at once. A write
replaces exactly the value that this worker wrote last (compare-and-set on the key's revision). Where another one stands
there, either our own write was stored and its answer lost, or a sibling of the node had the call before: then we write
over it. Or the call was resumed elsewhere because this node was taken for lost: then nothing more is told of it, and
who watches ends it. Or its data subject was erased: then nothing more is told of it, either, and it goes on.

A call that ended as callers' calls end is deleted. One that we cut off stays, with its last state, for as long as the
window of the tenant's policy. Away, slow or full, NATS costs the context of callers who ring back, and is counted.
"""

import asyncio
import time
from collections.abc import Callable
from dataclasses import dataclass, field

import structlog
from nats.js.errors import APIError

from edge.call.owner import Fate
from edge.call.saved_call import SavedCall, encode
from edge.call.session_entry import EntryStatus, SessionEntry, SessionPlace, SessionSeal, place_of
from edge.call.session_store import SessionStore, StoredSession
from edge.observability.metrics import CallMetrics
from edge.sync.connection import NATS_ERRORS, raise_if_cancelled

log = structlog.get_logger(__name__)

# Calls whose newest state is not told yet; far more than a worker carries.
WAITING_LIMIT = 1_000
AGAIN_AFTER_S = 0.5
ATTEMPTS = 5
# What is left of a call whose entry was deleted: a marker without content.
MARKER_TTL_S = 60.0


@dataclass(slots=True, kw_only=True)
class _Told:
    """A call of ours. `revision` is that of its entry as we wrote it, 0 where there is none; `since` is when its newest
    state was made, monotonic."""

    place: SessionPlace
    saved: SavedCall
    window_s: float
    since: float
    revision: int = 0
    is_over: bool = False
    is_cut_off: bool = False


@dataclass(slots=True, kw_only=True)
class RegionSessions:
    """Tells of the calls of one run of a worker. `run` is a task for the life of the worker."""

    store: SessionStore
    seal: SessionSeal
    node: str
    run_id: str
    metrics: CallMetrics
    now: Callable[[], float] = time.monotonic
    _calls: dict[str, _Told] = field(default_factory=dict)
    # Calls that go on, of which nothing is told any more.
    _untold: set[str] = field(default_factory=set)
    _resumed: Callable[[str], None] = field(default=lambda _: None)
    _waiting: dict[str, _Told] = field(default_factory=dict)
    _has_work: asyncio.Event = field(default_factory=asyncio.Event)
    _idle: asyncio.Event = field(default_factory=asyncio.Event)
    _is_telling: bool = False

    def keep(self, call: SavedCall, *, window_s: float) -> None:
        """Take the newest state of a call that may be resumed for `window_s` after it; returns at once."""
        if call.call_id in self._untold:
            return
        told = self._calls.get(call.call_id)
        if told is None:
            place = place_of(call.tenant, call.subject_id, call.call_id)
            told = self._calls[call.call_id] = _Told(place=place, saved=call, window_s=window_s, since=self.now())
        elif told.is_over:
            return
        told.saved, told.since = call, self.now()
        self._wait(told)

    def ended(self, call_id: str, *, is_cut_off: bool) -> None:
        """A call is over; cut off: by us, so that its caller may ring back to go on. Returns at once."""
        self._untold.discard(call_id)
        told = self._calls.get(call_id)
        if told is not None:
            told.is_over, told.is_cut_off, told.since = True, is_cut_off, self.now()
            self._wait(told)

    async def run(self) -> None:
        """Tell what comes, until cancelled, whatever happens to NATS."""
        while True:
            await self._has_work.wait()
            if not await self._tell_waiting():
                await asyncio.sleep(AGAIN_AFTER_S)
            raise_if_cancelled()

    def watch(self, resumed: Callable[[str], None]) -> None:
        """Have `resumed` told, by its id, of each call of ours that another call went on with."""
        self._resumed = resumed

    def fate(self, call_id: str) -> Fate | None:
        """What became of a call of this worker; None where it has none such."""
        told = self._calls.get(call_id)
        if told is None or not told.is_over:
            return Fate.RUNS if told is not None or call_id in self._untold else None
        return Fate.CUT_OFF if told.is_cut_off else Fate.ENDED

    async def flush(self, within_s: float) -> None:
        """Tell what is left, for at most so long; at shutdown, while `run` still runs."""
        try:
            async with asyncio.timeout(within_s):
                while self._waiting or self._is_telling:
                    self._idle.clear()
                    await self._idle.wait()
        except TimeoutError:
            self._failed("shutdown", len(self._waiting))

    def _wait(self, told: _Told) -> None:
        call_id = told.saved.call_id
        if call_id not in self._waiting and len(self._waiting) >= WAITING_LIMIT:
            oldest = self._waiting.pop(next(iter(self._waiting)))
            if oldest.is_over:
                self._calls.pop(oldest.saved.call_id, None)
            self._failed("overflow")
        self._waiting[call_id] = told
        self._has_work.set()

    async def _tell_waiting(self) -> bool:
        """Tell until nothing waits; False when NATS takes no more now."""
        while self._waiting:
            if not self.store.is_up:
                self._failed("away")
                return False
            wave, self._waiting = self._waiting, {}
            self._is_telling = True
            results = await asyncio.gather(*(self._tell(told) for told in wave.values()))
            self._is_telling = False
            failed = [told for told, is_told in zip(wave.values(), results, strict=True) if not is_told]
            for told in failed:  # unless something newer waits already
                self._waiting.setdefault(told.saved.call_id, told)
            if failed:
                return False
        self._has_work.clear()
        self._idle.set()
        return True

    async def _tell(self, told: _Told) -> bool:
        """Write the newest of one call; False where it is to be tried again."""
        saved, since, is_over, is_cut_off = told.saved, told.since, told.is_over, told.is_cut_off
        try:
            if is_over and not is_cut_off:
                is_ours = await self._write(told, b"", MARKER_TTL_S)
            else:
                status = EntryStatus.CUT_OFF if is_cut_off else EntryStatus.OPEN
                is_ours = await self._write(told, self._sealed(told.place, saved, status), told.window_s)
        except APIError as error:
            # The bucket is not there yet, or is full.
            self._failed(f"refused_{error.err_code}")
            return False
        except NATS_ERRORS as error:
            self._failed("late" if isinstance(error, TimeoutError) else "away")
            return False
        except Exception as error:  # noqa: BLE001 - calls must not end because the region could not be told of one
            log.error("session_not_told", kind=type(error).__name__)  # noqa: TRY400 - its text may quote what was said
            self._failed("broken")
            is_ours = True
        self.metrics.session_told.observe(self.now() - since)
        if not is_ours or is_over:
            self._calls.pop(saved.call_id, None)
            self._waiting.pop(saved.call_id, None)
        if not is_ours and not told.is_over:
            self._untold.add(saved.call_id)
        return True

    def _sealed(self, place: SessionPlace, saved: SavedCall, status: EntryStatus) -> bytes:
        entry = SessionEntry(
            call_id=saved.call_id,
            node=self.node,
            run=self.run_id,
            saved_ms=time.time_ns() // 1_000_000,
            status=status,
            state=encode(saved).decode(),
        )
        return self.seal.seal(place, entry)

    async def _write(self, told: _Told, value: bytes, ttl_s: float) -> bool:
        """False where it is no more ours to tell of: resumed elsewhere, or erased. Raises NATS_ERRORS."""
        for _ in range(ATTEMPTS):
            revision = await self.store.replace(told.place, value, told.revision, ttl_s=ttl_s)
            if revision is not None:
                told.revision = revision
                return True
            there = await self.store.newest(told.place)
            if there is not None and there.is_erased:
                log.info("session_was_erased", call_id=told.saved.call_id)
                return False
            if there is not None and self._is_resumed(there):
                log.warning("call_resumed_elsewhere", call_id=told.saved.call_id)
                self._failed("resumed_elsewhere")
                self._resumed(told.saved.call_id)
                return False
            told.revision = 0 if there is None else there.revision
        raise TimeoutError("others write the same session")

    def _is_resumed(self, there: StoredSession) -> bool:
        entry = self.seal.entry_of(there.place, there.value)
        return entry is not None and entry.status is EntryStatus.RESUMED

    def _failed(self, reason: str, count: int = 1) -> None:
        self.metrics.sessions_failed.labels(reason=reason).inc(count)
