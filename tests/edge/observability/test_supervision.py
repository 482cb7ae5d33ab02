"""A process tells systemd the truth: ready when it serves, alive while its loop and its threads are, and no more."""

import asyncio
import os
import socket
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from controlplane.supervision import Supervision as HubSupervision
from edge.observability.supervision import Supervision, pulse_interval_s

WATCHDOG_US = 100_000


class Manager:
    """Stands for systemd: the socket that it listens on."""

    def __init__(self, path: Path) -> None:
        self.socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK)
        self.socket.bind(str(path))

    async def next(self) -> str:
        async with asyncio.timeout(5):
            return (await asyncio.get_running_loop().sock_recv(self.socket, 4096)).decode()

    async def until(self, message: str) -> list[str]:
        told: list[str] = []
        while message not in told:
            told.append(await self.next())
        return told

    async def hears(self, within_s: float) -> list[str]:
        """All that comes within this time."""
        told: list[str] = []
        try:
            async with asyncio.timeout(within_s):
                while True:
                    told.append(await self.next())
        except TimeoutError:
            return told

    def forget(self) -> None:
        """Drop what came and was not taken."""
        with suppress(BlockingIOError):
            while True:
                self.socket.recv(4096)


@pytest.fixture
def manager(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Manager]:
    """A listening manager whose watchdog allows 100 ms."""
    opened = Manager(tmp_path / "notify")
    monkeypatch.setenv("NOTIFY_SOCKET", str(tmp_path / "notify"))
    monkeypatch.setenv("WATCHDOG_USEC", str(WATCHDOG_US))
    monkeypatch.setenv("WATCHDOG_PID", str(os.getpid()))
    yield opened
    opened.socket.close()


@pytest.mark.parametrize("kind", [Supervision, HubSupervision])
async def test_the_whole_life(manager: Manager, kind: type[Supervision] | type[HubSupervision]) -> None:
    """Start, ready, status, end are told in this order."""
    with kind(describe=lambda: "3 calls of 28") as supervision:
        supervision.starting("waits for inference")
        supervision.ready()
        supervision.stopping("drains 3 calls")
    told = [message for message in await manager.hears(0.1) if message != "WATCHDOG=1"]
    assert told == [
        "STATUS=waits for inference", "READY=1", "STATUS=3 calls of 28", "STOPPING=1", "STATUS=drains 3 calls",
    ]  # fmt: skip


async def test_the_status_follows_what_the_service_does(manager: Manager) -> None:
    """A status is told anew when it changed, by the pulse alone."""
    lines = iter(["idle", "idle", *["busy"] * 100])
    with Supervision(describe=lambda: next(lines)) as supervision:
        supervision.ready()
        told = await manager.until("STATUS=busy")
    assert [message for message in told if message.startswith("STATUS=")] == ["STATUS=idle", "STATUS=busy"]


async def test_stuck_threads_stop_the_pulse(manager: Manager) -> None:
    """While `is_alive` says no, no sign of life is sent, and it comes again afterwards."""
    alive = True
    with Supervision(is_alive=lambda: alive):
        await manager.until("WATCHDOG=1")
        alive = False
        await manager.hears(0.06)
        assert await manager.hears(0.25) == []
        alive = True
        await manager.until("WATCHDOG=1")


async def test_a_hung_loop_sends_nothing(manager: Manager) -> None:
    """The pulse comes from the event loop itself: what blocks the loop stops it."""
    with Supervision():
        for _ in range(3):
            await manager.until("WATCHDOG=1")
        manager.forget()
        time.sleep(0.3)  # noqa: ASYNC251 - the loop is to hang
        with pytest.raises(BlockingIOError):
            manager.socket.recv(4096)
        await manager.until("WATCHDOG=1")


async def test_outside_of_systemd_nothing_is_sent(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without NOTIFY_SOCKET every call is allowed and does nothing."""
    monkeypatch.delenv("NOTIFY_SOCKET", raising=False)
    with Supervision() as supervision:
        supervision.starting("starts")
        supervision.ready()
        supervision.stopping("ends")


def test_the_pulse_is_half_of_what_the_watchdog_allows() -> None:
    """Only the process that the watchdog watches has a pulse."""
    assert pulse_interval_s({"WATCHDOG_USEC": "20000000", "WATCHDOG_PID": "7"}, 7) == 10.0
    assert pulse_interval_s({"WATCHDOG_USEC": "20000000"}, 7) == 10.0
    assert pulse_interval_s({"WATCHDOG_USEC": "20000000", "WATCHDOG_PID": "8"}, 7) is None
    assert pulse_interval_s({"WATCHDOG_USEC": "0"}, 7) is None
    assert pulse_interval_s({"WATCHDOG_USEC": "soon"}, 7) is None
    assert pulse_interval_s({}, 7) is None
