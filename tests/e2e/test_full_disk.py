"""A node whose disk is full goes on answering, says so, and has lost no call when there is room again."""

import asyncio
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from bench.hub import Hub
from bench.report import is_dropped
from bench.target import Target
from contract.alarms import AlarmCode
from edge.records.database import DatabaseSettings
from edge.records.store import CallReader
from edge.records.verification import verify
from tests.e2e.calling import placed, until
from tests.e2e.test_calls import BANK, lines_of


@contextmanager
def full_disk(place: Path) -> Iterator[None]:
    """Takes all room there is, and what is freed meanwhile, until the block ends."""
    filler, over = place / "filler", threading.Event()

    def fill() -> None:
        with filler.open("wb", buffering=0) as file:
            while not over.is_set():
                try:
                    file.write(bytes(256 * 1024))
                except OSError:
                    over.wait(0.05)

    thread = threading.Thread(target=fill, name="filler")
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()
        filler.unlink()


def alarms_of(region: Target) -> set[str]:
    async def ask() -> set[str]:
        async with Hub(region.state) as hub:
            nodes = [node for one in await hub.fleet() for node in one.nodes]
            return {alarm for node in nodes for alarm in node.health.alarms}

    return asyncio.run(ask())


def calls_of(region: Target) -> int:
    return len(CallReader(region.records, BANK, DatabaseSettings()).recent_calls(10_000))


def test_calls_go_on_with_a_full_disk_and_are_recorded_when_there_is_room(region: Target) -> None:
    before = calls_of(region)
    with full_disk(region.state.root / "nodes"):
        until(lambda: AlarmCode.DISK_FULL in alarms_of(region))
        traces = placed(region, lines_of("What time do you close on Friday?"), lines_of("Where is your branch?"))
        assert all(trace.is_script_done and not is_dropped(trace) for trace in traces)
    until(lambda: AlarmCode.DISK_FULL not in alarms_of(region))
    until(lambda: calls_of(region) == before + 2)
    assert verify(region.records, BANK, DatabaseSettings(is_replicated=True)).is_whole
