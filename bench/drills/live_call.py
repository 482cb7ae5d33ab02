"""A call of a drill while it goes on: where its turn stands, who has it, and which blows fell into it."""

import asyncio
import datetime as dt
from dataclasses import dataclass, field
from enum import StrEnum

from bench.caller import CallPlan


class TurnPhase(StrEnum):
    """Where a turn stands, as the caller sees it."""

    RINGING = "ringing"
    GREETING = "greeting"
    CALLER_SPEAKS = "caller speaks"
    AGENT_THINKS = "agent thinks"
    AGENT_SPEAKS = "agent speaks"
    PAUSE = "pause"
    OVER = "over"


@dataclass(slots=True)
class LiveCall:
    """One call. `node` and `node_call_id` are known once its slot was found; `answered_s` and `blows_s` are on the
    loop's clock; `rounds` has the number of each blow's round."""

    plan: CallPlan
    rang_at: dt.datetime
    is_ring_back: bool = False
    answered_at: dt.datetime | None = None
    answered_s: float = 0.0
    phase: TurnPhase = TurnPhase.RINGING
    node: str = ""
    node_call_id: str = ""
    blows_s: list[float] = field(default_factory=list)
    rounds: list[int] = field(default_factory=list)
    repeats: int = 0

    def was_struck(self, since_s: float, until_s: float) -> bool:
        """Whether a blow fell between two moments of the loop's clock."""
        return any(since_s <= blow_s <= until_s for blow_s in self.blows_s)


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
