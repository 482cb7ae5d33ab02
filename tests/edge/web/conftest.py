"""The page on a real port with an acceptor that echoes, for browsers and aiortc peers."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Iterator

import pytest
from aiohttp import web

from edge.call.errors import NoCapacityError
from edge.call.observer import AgentSaid, CallActivity, CallEnded, CallerSaid, StateChanged, TurnTimed
from edge.call.ports import AudioReceived, DigitPressed, LegClosed
from edge.conversation.dialogue import CallOutcome
from edge.records.model import TurnTimings
from edge.web.app import create_web_app
from edge.web.calls import AgentListing, WebCall
from tests.edge.web.peer import level, tone

AGENTS = (
    AgentListing(name="pharmacy", title="Riverside Pharmacy", description="Opening hours, prescriptions, repeats"),
    AgentListing(name="council", title="Borough Council", description="Bins, parking permits, council tax"),
)
TIMINGS = (
    TurnTimings(
        pause_seen_ms=72,
        recognise_queue_ms=4,
        recognise_compute_ms=91,
        understand_ms=12,
        audio_ready_ms=214,
        sent_ms=226,
    ),
    TurnTimings(
        pause_seen_ms=64,
        recognise_queue_ms=2,
        recognise_compute_ms=104,
        understand_ms=15,
        audio_ready_ms=301,
        sent_ms=318,
    ),
)


class EchoAcceptor:
    """Greets with a tone, then plays back what it hears; tells a short conversation to the watchers."""

    def __init__(self) -> None:
        self.capacity = 1
        self.used = 0
        self.frame_levels: list[float] = []
        self.digits: list[str] = []
        self.agents: list[str] = []
        self.greeting = tone(600, 1.0)
        self.fails = False
        self.ended = asyncio.Event()

    @contextlib.contextmanager
    def _place(self) -> Iterator[None]:
        try:
            yield
        finally:
            self.used -= 1

    def admit(self, agent: str) -> contextlib.AbstractContextManager[None]:
        if self.used >= self.capacity:
            raise NoCapacityError(f"all {self.capacity} slots are taken")
        self.used += 1
        self.agents.append(agent)
        return self._place()

    async def run(self, call: WebCall) -> None:
        if self.fails:
            raise ValueError("the call session broke")
        call.observer.observe(StateChanged(activity=CallActivity.SPEAKING))
        call.observer.observe(AgentSaid(seq=0, text="Riverside Pharmacy, this call is recorded. How can I help?"))
        await call.leg.send(self.greeting)
        self._tell_conversation(call)
        while True:
            match await call.leg.receive():
                case AudioReceived(pcm=pcm):
                    self.frame_levels.append(level(pcm))
                    await call.leg.send(pcm)
                case DigitPressed(digit=digit):
                    self.digits.append(digit)
                    call.observer.observe(CallerSaid(seq=10 + len(self.digits), text=f"Key {digit}", is_final=True))
                case LegClosed():
                    break
        call.observer.observe(CallEnded(outcome=CallOutcome.CONTAINED, reason="the caller hung up"))
        self.ended.set()

    def _tell_conversation(self, call: WebCall) -> None:
        tell = call.observer.observe
        tell(CallerSaid(seq=1, text="when do you", is_final=False))
        tell(CallerSaid(seq=1, text="When do you open on Saturday?", is_final=True))
        tell(AgentSaid(seq=1, text="On Saturdays we are open from nine to one."))
        tell(TurnTimed(seq=1, timings=TIMINGS[0]))
        tell(CallerSaid(seq=2, text="Can I collect my prescription then?", is_final=True))
        tell(AgentSaid(seq=2, text="Yes. Prescriptions are ready at the counter", was_interrupted=True))
        tell(TurnTimed(seq=2, timings=TIMINGS[1]))
        tell(CallerSaid(seq=3, text="and do I need to bring", is_final=False))


@pytest.fixture
def acceptor() -> EchoAcceptor:
    return EchoAcceptor()


@pytest.fixture
async def page_url(acceptor: EchoAcceptor) -> AsyncIterator[str]:
    """The address of the page, served on a free port of loopback."""
    async with asyncio.TaskGroup() as tasks:
        runner = web.AppRunner(create_web_app(AGENTS, acceptor, tasks=tasks))
        await runner.setup()
        site = web.TCPSite(runner, "127.0.0.1", 0)
        await site.start()
        yield f"http://127.0.0.1:{runner.addresses[0][1]}/"
        await runner.cleanup()
