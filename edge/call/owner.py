"""What became of a call that stands open in the region: asked of the node that has it, or had it.

Theory of operation. The workers of a node answer for its calls, whichever of them has one: a sibling may have adopted
it. Who has the call says so. Otherwise the node's records know whether it ended, and how; a call of an earlier boot
ended with that, also before anybody has written it down. Who knows nothing says nothing: a call may be between two
owners.

Silence is no death. The node may be cut off and go on with the call, NATS may be starting again, a loop may be late. So
it is asked a few times, and a call counts as lost only where the machine gives no other sign of life either
(edge/call/neighbours.py).
"""

import asyncio
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Protocol

import structlog
from nats.aio.msg import Msg
from pydantic import Field, TypeAdapter, ValidationError
from pydantic.dataclasses import dataclass as checked_dataclass

from contract.names import NAME_PATTERN
from contract.subjects import session_owner
from edge.call.neighbours import Neighbours
from edge.call.session_entry import SessionEntry, SessionPlace
from edge.conversation.dialogue import CallOutcome
from edge.records.database import DatabaseSettings
from edge.records.errors import RecordsError
from edge.records.presence import was_lost_with_its_node
from edge.records.store import CallReader
from edge.sync.connection import NATS_ERRORS, NatsLink

log = structlog.get_logger(__name__)

# Together below a second, before the call is answered.
ASKS = 3
# A living worker answers in milliseconds; its loop is late by no more at the rated load.
ASK_WITHIN_S = 0.3
# "Nobody is there" comes at once, also while a worker connects anew.
ASK_EVERY_S = 0.3


class Fate(StrEnum):
    """RUNS: a worker has the call. ENDED: as callers' calls end. CUT_OFF: we ended it against the caller's will. LOST:
    its machine is gone. UNKNOWN: nobody knows, and it may run."""

    RUNS = "runs"
    ENDED = "ended"
    CUT_OFF = "cut_off"
    LOST = "lost"
    UNKNOWN = "unknown"


_SAID = {fate.value.encode(): fate for fate in (Fate.RUNS, Fate.ENDED, Fate.CUT_OFF)}


@checked_dataclass(frozen=True, slots=True, kw_only=True)
class Question:
    """Which call is meant, and the run of a worker that wrote of it last."""

    tenant: str = Field(pattern=f"^{NAME_PATTERN}$")
    call_id: str = Field(max_length=256)
    run: str = Field(max_length=256)


_CODEC = TypeAdapter(Question)


class Standing(Protocol):
    """The calls of a worker (`edge.call.region_sessions.RegionSessions`)."""

    def fate(self, call_id: str) -> Fate | None:
        """What became of a call of this worker; None where it has none such."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Owners:
    """Asks other nodes; `node` is our own."""

    link: NatsLink
    node: str
    neighbours: Neighbours

    async def fate(self, place: SessionPlace, entry: SessionEntry) -> Fate:
        """What became of an open call. Takes a few milliseconds, or `ASKS` times `ASK_WITHIN_S`; never raises."""
        # This machine lives.
        may_live, again_s = entry.node == self.node, 0.0
        for _ in range(ASKS):
            await asyncio.sleep(again_s)
            began = asyncio.get_running_loop().time()
            said, sign = await asyncio.gather(self._ask(place, entry), self._may_live(entry.node, so_far=may_live))
            if said is not None:
                return said
            may_live |= sign
            again_s = max(0.0, began + ASK_EVERY_S - asyncio.get_running_loop().time())
        return Fate.UNKNOWN if may_live else Fate.LOST

    async def _may_live(self, node: str, *, so_far: bool) -> bool:
        return so_far or await self.neighbours.may_live(node)

    async def _ask(self, place: SessionPlace, entry: SessionEntry) -> Fate | None:
        question = Question(tenant=place.tenant, call_id=entry.call_id, run=entry.run)
        try:
            answer = await self.link.client.request(
                session_owner(entry.node), _CODEC.dump_json(question), timeout=ASK_WITHIN_S
            )
        except NATS_ERRORS:
            return None
        return _SAID.get(answer.data)


@dataclass(frozen=True, slots=True, kw_only=True)
class OwnerAnswers:
    """Answers other nodes, as each worker of this one does."""

    link: NatsLink
    node: str
    calls: Standing
    records: Path
    settings: DatabaseSettings

    async def run(self) -> None:
        """Answer until cancelled."""
        await self.link.ready()
        await self.link.client.subscribe(session_owner(self.node), cb=self._answer)
        await asyncio.Event().wait()

    async def _answer(self, message: Msg) -> None:
        try:
            question = _CODEC.validate_json(message.data)
            fate = self.calls.fate(question.call_id) or await asyncio.to_thread(self._recorded, question)
            if fate is not None:
                await message.respond(fate.encode())
        except ValidationError:
            log.warning("owner_question_malformed")
        except NATS_ERRORS as error:
            log.debug("owner_not_answered", detail=type(error).__name__)

    def _recorded(self, question: Question) -> Fate | None:
        try:
            call = CallReader(self.records, question.tenant, self.settings).call(question.call_id)
        except RecordsError as error:
            log.warning("owner_records_unreadable", code=error.code)
            call = None
        if call is not None and call.ended_at is not None:
            return Fate.CUT_OFF if call.outcome is CallOutcome.FAILED else Fate.ENDED
        return Fate.CUT_OFF if was_lost_with_its_node(question.run) else None
