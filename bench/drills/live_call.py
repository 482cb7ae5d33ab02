"""A call of a drill while it goes on: where its turn stands, who has it, and which blows fell into it."""

import asyncio
import datetime as dt
from dataclasses import dataclass, field
from enum import StrEnum

from bench.caller import CallPlan
from bench.drills.kinds import SPECS, DrillKind, Promise


class TurnPhase(StrEnum):
    """Where a turn stands, as the caller sees it."""

    RINGING = "ringing"
    GREETING = "greeting"
    CALLER_SPEAKS = "caller speaks"
    AGENT_THINKS = "agent thinks"
    AGENT_SPEAKS = "agent speaks"
    PAUSE = "pause"
    OVER = "over"


@dataclass(frozen=True, slots=True, kw_only=True)
class FeltBlow:
    """A blow that fell into a call: the number of its round, and when, on the loop's clock."""

    number: int
    kind: DrillKind
    at_s: float

    @property
    def promise(self) -> Promise:
        return SPECS[self.kind].promise

    @property
    def loses_words(self) -> bool:
        return SPECS[self.kind].loses_words


@dataclass(slots=True)
class LiveCall:
    """One call. `node` and `node_call_id` are known once its slot was found; `answered_s` is on the loop's clock;
    `lost_in` is the round that cost the caller the call before, where this one is to go on with it."""

    plan: CallPlan
    rang_at: dt.datetime
    lost_in: int | None = None
    answered_at: dt.datetime | None = None
    answered_s: float = 0.0
    phase: TurnPhase = TurnPhase.RINGING
    node: str = ""
    node_call_id: str = ""
    blows: list[FeltBlow] = field(default_factory=list)
    repeats: int = 0

    @property
    def is_ring_back(self) -> bool:
        return self.lost_in is not None

    @property
    def rounds(self) -> list[int]:
        """The numbers of the rounds that struck it."""
        return [blow.number for blow in self.blows]

    def feel(self, blow: FeltBlow) -> None:
        """A blow fell into it; a second word about the same round corrects the first."""
        self.forget(blow.number)
        self.blows.append(blow)

    def forget(self, number: int) -> None:
        """The blow of this round did not fall."""
        self.blows = [blow for blow in self.blows if blow.number != number]

    def was_struck(self, since_s: float, until_s: float, *, losing_words: bool = False) -> bool:
        """Whether a blow (`losing_words`: of a kind that loses some) fell between two moments of the loop's clock."""
        return any(since_s <= blow.at_s <= until_s and (blow.loses_words or not losing_words) for blow in self.blows)


@dataclass(slots=True)
class LiveCalls:
    """All calls that go on; whoever waits for one of them to enter a phase is told."""

    calls: dict[str, LiveCall] = field(default_factory=dict)
    _waiting: list[tuple[TurnPhase, asyncio.Future[LiveCall]]] = field(default_factory=list)

    def enter(self, call: LiveCall, phase: TurnPhase) -> None:
        """The call's turn stands so now."""
        call.phase = phase
        if phase is TurnPhase.OVER:
            self.calls.pop(call.plan.call_id, None)
        else:
            self.calls[call.plan.call_id] = call
        # Nobody aims at a call that is not known on its node.
        if not call.node_call_id:
            return
        for wanted, found in self._waiting:
            if wanted is phase and not found.done():
                found.set_result(call)

    async def entering(self, phase: TurnPhase, within_s: float) -> LiveCall | None:
        """The next call that enters the phase and is known on its node; None when none does in time."""
        found: asyncio.Future[LiveCall] = asyncio.get_running_loop().create_future()
        entry = (phase, found)
        self._waiting.append(entry)
        try:
            async with asyncio.timeout(within_s):
                return await found
        except TimeoutError:
            return None
        finally:
            self._waiting.remove(entry)
