"""A caller who was cut off rings back: what is asked and got of where such calls wait (`region_ring_backs`)."""

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Protocol

from edge.call.resumption import RingBack
from edge.call.saved_call import SavedCall
from edge.call.session_entry import SessionEntry, SessionPlace
from edge.call.session_store import StoredSession
from edge.records.subjects import SubjectId


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


async def for_ever() -> None:
    """Nobody tells when the caller is gone."""
    await asyncio.Event().wait()


class RingBacks(Protocol):
    """Where calls that were cut off wait for their callers."""

    async def take_up(self, wanted: Wanted) -> Claimed | Unclaimed | None:
        """The call that this caller was cut off from, for this call alone to go on with; None for all other calls."""

    async def claim_late(self, unclaimed: Unclaimed, ended: Callable[[], Awaitable[None]] = for_ever) -> Claimed | None:
        """Wait for the region, for some seconds; None where it does not come back, another call was faster, or the
        caller is gone, which `ended` waits for: then the call may be gone on with again."""

    async def give_back(self, claimed: Claimed) -> None:
        """The caller hung up before the answer, and may ring again."""


class NoRingBacks:
    """A node on its own: nobody is recognised."""

    async def take_up(self, wanted: Wanted) -> Claimed | Unclaimed | None:  # noqa: ARG002
        """Nothing was cut off."""
        return None

    async def claim_late(
        self,
        unclaimed: Unclaimed,  # noqa: ARG002
        ended: Callable[[], Awaitable[None]] = for_ever,  # noqa: ARG002
    ) -> Claimed | None:
        """Never reached."""
        return None

    async def give_back(self, claimed: Claimed) -> None:
        """Never reached."""
