"""Who is asked next and when, with asks that do as the test says; endpoints that nobody serves."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from pathlib import Path

import grpc
import pytest

from edge.inference.breaker import TRIP_AFTER, BreakerState
from edge.inference.endpoint import Endpoint
from edge.inference.errors import InferenceLateError
from edge.inference.hedging import MOST_SAVED, DelayBounds, FirstAnswers, Work
from edge.inference.racing import Candidate, Race, Standing

SOON = DelayBounds(least_s=0.02, initial_s=0.02, most_s=0.02)


class Askable:
    """What an endpoint is asked for waits until the test says what comes of it."""

    def __init__(self) -> None:
        self.asked = asyncio.Event()
        self.is_cancelled = False
        self.outcome: asyncio.Future[str] = asyncio.get_running_loop().create_future()

    async def __call__(self, left_s: float) -> str:
        assert left_s > 0
        self.asked.set()
        try:
            return await self.outcome
        except asyncio.CancelledError:
            self.is_cancelled = True
            raise

    async def refuses(self, code: grpc.StatusCode) -> None:
        async with asyncio.timeout(5):
            await self.asked.wait()
        self.outcome.set_exception(grpc.aio.AioRpcError(code, grpc.aio.Metadata(), grpc.aio.Metadata(), "no"))

    async def answers(self, text: str) -> None:
        async with asyncio.timeout(5):
            await self.asked.wait()
        self.outcome.set_result(text)


class Field:
    """This node's endpoint and two siblings', and a race between them."""

    def __init__(self, folder: Path, tasks: asyncio.TaskGroup) -> None:
        self.standing = Standing()
        self.standing.answers[Work.EMBED] = FirstAnswers(SOON)
        self.discarded: list[str] = []
        self.endpoints = [Endpoint.local(folder / "none.sock", lambda: None)]
        self.endpoints += [Endpoint(name, grpc.aio.insecure_channel(f"unix:{folder}/none.sock")) for name in "ab"]
        self.asks = [Askable() for _ in self.endpoints]
        self.tasks = tasks
        for endpoint in self.endpoints:
            endpoint.start(tasks)

    def race(self, within_s: float = 5.0, *, count: int = 3) -> asyncio.Task[str]:
        """Its result is the answer, or the name of the error."""
        race = Race[str](self.standing, Work.EMBED, within_s, self.discarded.append, is_first=True)
        candidates = [Candidate(e, ask) for e, ask in zip(self.endpoints, self.asks, strict=True)][:count]
        return self.tasks.create_task(_outcome(race, candidates))

    def breaker(self, index: int) -> BreakerState:
        return self.endpoints[index].breakers[Work.EMBED].state


async def _outcome(race: Race[str], candidates: Sequence[Candidate[str]]) -> str:
    try:
        return await race.run(candidates)
    except grpc.aio.AioRpcError as error:
        return str(error.code().name)
    except InferenceLateError:
        return "LATE"


@pytest.fixture
async def field(tmp_path: Path) -> AsyncIterator[Field]:
    async with asyncio.TaskGroup() as tasks:
        made = Field(tmp_path, tasks)
        yield made
        for endpoint in made.endpoints:
            await endpoint.stop()


async def test_who_fails_is_followed_by_the_next_at_once(field: Field) -> None:
    field.standing.answers[Work.EMBED] = FirstAnswers(DelayBounds(least_s=60, initial_s=60, most_s=60))
    race = field.race(within_s=300)
    await field.asks[0].refuses(grpc.StatusCode.UNAVAILABLE)
    await field.asks[1].refuses(grpc.StatusCode.PERMISSION_DENIED)
    await field.asks[2].answers("from b")
    assert await race == "from b"
    assert field.standing.failovers == {(Work.EMBED, "unavailable"): 1, (Work.EMBED, "permission_denied"): 1}
    assert field.standing.served == {("b", Work.EMBED): 1}
    assert not field.standing.hedges


async def test_who_is_slow_gets_a_rival_and_the_loser_is_told_to_stop(field: Field) -> None:
    race = field.race()
    await field.asks[1].answers("from a")
    assert await race == "from a"
    assert field.asks[0].is_cancelled
    assert field.standing.hedges == {(Work.EMBED, "sent"): 1, (Work.EMBED, "won"): 1}


async def test_the_first_one_may_still_win(field: Field) -> None:
    race = field.race(count=2)
    async with asyncio.timeout(5):
        await field.asks[1].asked.wait()
    await field.asks[0].answers("from here")
    assert await race == "from here"
    assert field.asks[1].is_cancelled
    assert field.standing.hedges == {(Work.EMBED, "sent"): 1}


async def test_without_budget_nobody_is_asked_twice(field: Field) -> None:
    while field.standing.budget.spend():
        pass
    assert await field.race(within_s=0.2) == "LATE"
    assert not field.asks[1].asked.is_set()
    assert field.standing.hedges == {(Work.EMBED, "over_budget"): 1}


async def test_losing_again_and_again_opens_the_breaker(field: Field) -> None:
    for _ in range(TRIP_AFTER):
        field.asks = [Askable() for _ in field.endpoints]
        race = field.race()
        await field.asks[1].answers("from a")
        await race
    assert field.breaker(0) is BreakerState.OPEN
    assert field.breaker(1) is BreakerState.CLOSED


async def test_an_overloaded_service_is_not_broken_and_trying_elsewhere_is_counted(field: Field) -> None:
    for _ in range(2 * TRIP_AFTER):
        field.asks = [Askable() for _ in field.endpoints]
        race = field.race()
        await field.asks[0].refuses(grpc.StatusCode.RESOURCE_EXHAUSTED)
        if field.standing.failovers.total() < MOST_SAVED:
            await field.asks[1].answers("from a")
            assert await race == "from a"
        else:
            assert await race == "RESOURCE_EXHAUSTED"
    assert field.breaker(0) is BreakerState.CLOSED
    assert field.standing.failovers.total() == MOST_SAVED


async def test_a_request_that_is_wrong_is_wrong_everywhere(field: Field) -> None:
    race = field.race()
    await field.asks[0].refuses(grpc.StatusCode.INVALID_ARGUMENT)
    assert await race == "INVALID_ARGUMENT"


async def test_when_all_fail_the_first_error_is_told(field: Field) -> None:
    race = field.race(within_s=300)
    for ask, code in zip(field.asks, ("UNAVAILABLE", "PERMISSION_DENIED", "RESOURCE_EXHAUSTED"), strict=True):
        await ask.refuses(grpc.StatusCode[code])
    assert await race == "UNAVAILABLE"


async def test_who_hangs_is_left_at_once_and_may_still_answer(field: Field) -> None:
    """Leaving it costs no budget: its requests, not more of them, go elsewhere."""
    field.standing.answers[Work.EMBED] = FirstAnswers(DelayBounds(least_s=60, initial_s=60, most_s=60))
    race = field.race(within_s=300)
    await field.asks[0].asked.wait()
    field.endpoints[0].hung.set_result(None)
    async with asyncio.timeout(5):
        await field.asks[1].asked.wait()
    await field.asks[0].answers("awake")
    assert await race == "awake"
    assert field.standing.failovers == {(Work.EMBED, "hung"): 1}


async def test_nobody_is_waited_for_longer_than_allowed(field: Field) -> None:
    for _ in range(TRIP_AFTER):
        field.asks = [Askable() for _ in field.endpoints]
        assert await field.race(within_s=0.02, count=1) == "LATE"
        assert field.asks[0].is_cancelled
    assert field.breaker(0) is BreakerState.OPEN


async def test_cancelling_the_request_cancels_all_that_was_asked(field: Field) -> None:
    race = field.race()
    for ask in field.asks[:2]:
        async with asyncio.timeout(5):
            await ask.asked.wait()
    race.cancel()
    with pytest.raises(asyncio.CancelledError):
        await race
    assert [ask.is_cancelled for ask in field.asks[:2]] == [True, True]
    assert field.breaker(0) is BreakerState.CLOSED


async def test_two_answers_in_the_same_moment_are_one_answer(field: Field) -> None:
    """The other one is given back, so that its stream ends."""
    race = field.race()
    for ask in field.asks[:2]:
        async with asyncio.timeout(5):
            await ask.asked.wait()
    field.asks[0].outcome.set_result("one")
    field.asks[1].outcome.set_result("two")
    winner = await race
    assert {winner, *field.discarded} == {"one", "two"}
