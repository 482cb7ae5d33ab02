"""Hub and region together, on calls: what the hub changes is heard, and the hub's absence is not."""

import asyncio
import contextlib
import json
import os
import signal
import time
from collections.abc import Iterator

import pytest

from bench.cli.bench import JUDGE_MODELS
from bench.dialogue import dialogue
from bench.exchange import hear
from bench.hub import Hub
from bench.judge import WhisperListener
from bench.recording import read_recording
from bench.report import is_dropped
from bench.scenario import Line, Say, Scenario, Wait
from bench.target import Target
from edge.records.database import DatabaseSettings
from edge.records.store import CallReader
from provisioning.local.services import find_service, services, start_service, stop_service
from tests.e2e.calling import Calling, placed, slots_in_use, until

SHOP = "volt-electronics"
PRICE = "How much are the AeroBuds?"


def shop_call(*lines: str | float) -> Scenario:
    """A call of spoken lines and pauses in seconds."""
    acts = tuple(Line(act=Say(text=line) if isinstance(line, str) else Wait(seconds=line)) for line in lines)
    return Scenario(tenant=SHOP, id="test", tags=(), lines=acts)


def turns_of_newest_call(region: Target) -> int:
    reader = CallReader(region.records, SHOP, DatabaseSettings())
    calls = reader.recent_calls(1)
    return sum(bool(turn.caller_text) for turn in reader.turns(calls[0].call_id)) if calls else 0


def calls_so_far(region: Target) -> int:
    return len(CallReader(region.records, SHOP, DatabaseSettings()).recent_calls(1000))


async def set_price(region: Target, price: str) -> None:
    row = {
        "id": "aerobuds",
        "version": int(time.time()),
        "title": "AeroBuds",
        "aliases": "aero buds|air buds|earbuds|wireless earbuds",
        "price": price,
        "stock": "24",
        "delivery": "two to three working days",
        "warranty": "two years",
        "answer": "The AeroBuds are wireless earbuds with noise cancelling.",
    }
    async with Hub(region.state) as hub:
        await hub.build(SHOP, "products", [json.dumps(row)], is_patch=True)
        await hub.publish(SHOP)


@pytest.fixture
def price(region: Target) -> Iterator[None]:
    """The price in the shop's own list, again after the test."""
    yield
    asyncio.run(set_price(region, "79.99"))


@pytest.mark.usefixtures("price")
def test_a_running_call_hears_the_new_price(region: Target) -> None:
    """Asked before and after a publish in one call: the old price, then the new one."""
    before = calls_so_far(region)
    calling = Calling(region, shop_call(PRICE, 4.0, PRICE))
    calling.start()
    until(lambda: calls_so_far(region) > before and turns_of_newest_call(region) >= 1)
    asyncio.run(set_price(region, "64.50"))
    calling.join()
    (trace,) = calling.traces
    recording = read_recording(trace.spoken_file, trace.heard_file)
    ear = WhisperListener(region.state.models / JUDGE_MODELS[0])
    turns = dialogue(recording, hear(recording, trace.utterances), ear, None)
    heard = [turn.agent_heard for turn in turns if turn.agent_heard]
    assert "79.99" in heard[0]
    assert "64.50" in heard[-1]


def test_calls_do_not_need_the_hub(region: Target) -> None:
    """With every service of the hub dead, calls are answered and a worker that was killed comes back and serves."""
    hub = [service for service in services(region.state) if service.place == "hub"]
    try:
        for service in hub:
            stop_service(service, signal.SIGKILL)
        for name in ("calls-1", "calls-2", "sync"):
            worker = find_service(region.state, f"{region.node}/{name}")
            assert worker.pid is not None
            os.kill(worker.pid, signal.SIGKILL)
        until(lambda: all(_lives(region, name) for name in ("calls-1", "calls-2", "sync")))
        until(lambda: _is_answered(region))
    finally:
        for service in hub:
            start_service(service)
    until(lambda: _hub_counts_all(region), within_s=150)


def test_a_silent_link_costs_no_call(region: Target) -> None:
    """The hub's NATS is stopped in its tracks: connections stay up, nothing comes through."""
    pid = find_service(region.state, "hub/nats").pid
    assert pid is not None
    os.kill(pid, signal.SIGSTOP)
    try:
        (trace,) = placed(region, shop_call(PRICE))
        assert trace.answered_after_s is not None
        assert not is_dropped(trace)
    finally:
        os.kill(pid, signal.SIGCONT)
    until(lambda: _hub_counts_all(region), within_s=150)


def test_a_document_that_names_nothing_is_refused_and_nothing_changes(region: Target) -> None:
    """The admin hears which key is wrong; the region keeps its bundle."""

    async def versions() -> dict[str, int]:
        async with Hub(region.state) as hub:
            return {one.region: one.bundle_version for one in await hub.fleet()}

    async def apply(text: str) -> object:
        async with Hub(region.state) as hub:
            return await hub.apply({"broken.yaml": text})

    before = asyncio.run(versions())
    with pytest.raises(Exception, match="bands"):
        asyncio.run(
            apply(
                "apiVersion: borough/v1\nkind: Policy\nmetadata: {name: shop, tenant: volt-electronics}\n"
                "spec: {bands: {answer: 7}}\n"
            )
        )
    assert asyncio.run(versions()) == before


def _lives(region: Target, name: str) -> bool:
    return find_service(region.state, f"{region.node}/{name}").pid is not None


def _is_answered(region: Target) -> bool:
    (trace,) = placed(region, shop_call(PRICE))
    return trace.answered_after_s is not None and not is_dropped(trace)


def _hub_counts_all(region: Target) -> bool:
    """Every call that ended on the node is in the hub's store, once."""

    async def counted() -> int:
        async with Hub(region.state) as hub:
            return (await hub.calls_by_region()).get(region.region, 0)

    recorded = sum(
        len(CallReader(region.records, tenant, DatabaseSettings()).recent_calls(10_000))
        for tenant in ("harbour-bank", SHOP)
    )
    with contextlib.suppress(Exception):
        return slots_in_use(region) == 0 and asyncio.run(counted()) == recorded
    return False
