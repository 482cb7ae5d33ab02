"""Services of calls take new certificates while no call needs them; a script stands in for systemctl."""

import asyncio
import fcntl
import os
import time
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from pathlib import Path

import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer

from provisioning.node import call_services
from provisioning.node.call_services import CallServices
from provisioning.node.errors import RenderError
from provisioning.node.inputs import Inputs
from provisioning.node.machine import DESCRIPTION, IDENTITY, SLOTS, Machine
from tests.provisioning.node.conftest import ADDRESSES, Enrolled, node_toml

SYSTEMCTL = """\
#!/bin/sh
# is-active --quiet UNIT | show --timestamp=unix ... UNIT | restart UNIT; a unit that runs has a file with when it began
for unit; do :; done
case "$1" in
  is-active) test -e "{units}/$unit" || exit 3 ;;
  show) cat "{units}/$unit" ;;
  restart) test ! -e "{units}/broken" || exit 1; date +@%s > "{units}/$unit"; echo "$unit" >> "{units}/log" ;;
esac
"""
WORKERS = ("borough-calls@1", "borough-calls@2")
DAY_S = 86_400


@dataclass(slots=True)
class Node:
    """A node of three whose services began yesterday. `calls`: of each worker."""

    machine: Machine
    units: Path
    calls: dict[int, int]

    @property
    def services(self) -> CallServices:
        inputs = Inputs(self.machine)
        return CallServices(inputs, inputs.node())

    @property
    def restarted(self) -> list[str]:
        log = self.units / "log"
        return log.read_text().split() if log.exists() else []

    def begin(self, *units: str, ago_s: float = DAY_S) -> None:
        for unit in units:
            (self.units / unit).write_text(f"@{time.time() - ago_s:.0f}\n")

    def certify(self, ago_s: float) -> None:
        """Have the certificates of both roles in use for so long."""
        for role in ("calls", "inference"):
            moment = time.time() - ago_s
            os.utime(self.machine.at(IDENTITY) / role / "current", (moment, moment), follow_symlinks=False)


@pytest.fixture
async def node(
    enrolled: Callable[..., Enrolled], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[Node]:
    machine = enrolled(*ADDRESSES).machine(tmp_path / "root")
    machine.at(SLOTS).mkdir(parents=True)
    program, units, calls = tmp_path / "bin" / "systemctl", tmp_path / "units", {1: 0, 2: 0}
    units.mkdir()
    program.parent.mkdir()
    program.write_text(SYSTEMCTL.format(units=units))
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{program.parent}:/usr/bin:/bin")
    monkeypatch.setattr(call_services, "LOOK_EVERY_S", 0.02)

    async def metrics(request: web.Request) -> web.Response:
        index = int(request.match_info["index"])
        return web.Response(text=f"# TYPE borough_calls_active gauge\nborough_calls_active {float(calls[index])}\n")

    app = web.Application()
    app.add_routes([web.get("/{index}/metrics", metrics)])
    async with TestServer(app) as server:
        monkeypatch.setattr(call_services, "worker_web_port", lambda index: f"{server.port}/{index}")
        made = Node(machine=machine, units=units, calls=calls)
        made.begin(*WORKERS, "borough-inference")
        yield made


async def test_who_has_no_call_takes_the_new_certificate(node: Node) -> None:
    """One after the other; the second time there is nothing to do."""
    assert await node.services.stale() == [*WORKERS, "borough-inference"]
    assert await node.services.restart() == [*WORKERS, "borough-inference"]
    assert node.restarted == [*WORKERS, "borough-inference"]
    assert await node.services.stale() == []
    assert await node.services.restart() == []


async def test_who_began_with_the_certificates_in_use_is_left_alone(node: Node) -> None:
    """Also who does not run."""
    node.certify(ago_s=2 * DAY_S)
    (node.units / WORKERS[0]).unlink()
    assert await node.services.restart() == []


async def test_no_call_ends_for_it(node: Node) -> None:
    """A worker with calls stays, and with it inference, until their end; then both follow."""
    node.calls[2] = 1
    with (node.machine.at(SLOTS) / "0").open("w") as slot:
        fcntl.flock(slot, fcntl.LOCK_EX)
        assert await node.services.restart(within_s=0.2) == [WORKERS[0]]
        assert await node.services.stale() == [WORKERS[1], "borough-inference"]
        waiting = asyncio.create_task(node.services.restart(within_s=20.0))
        await asyncio.sleep(0.1)
    node.calls[2] = 0
    assert set(await waiting) == {WORKERS[1], "borough-inference"}


@pytest.mark.parametrize(("names", "restarted"), [(tuple(ADDRESSES), ["borough-inference"]), (("in-south-1",), [])])
async def test_inference_does_not_wait_for_ever(node: Node, names: tuple[str, ...], restarted: list[str]) -> None:
    """Siblings answer meanwhile; a node that has none goes on waiting for a moment without calls."""
    node.machine.at(DESCRIPTION).write_text(node_toml("in-south-1", names))
    node.begin(*WORKERS, "borough-inference", ago_s=5 * DAY_S)
    node.certify(ago_s=4 * DAY_S)
    node.calls |= {1: 1, 2: 1}
    with (node.machine.at(SLOTS) / "0").open("w") as slot:
        fcntl.flock(slot, fcntl.LOCK_EX)
        assert await node.services.restart(within_s=0) == restarted


async def test_a_worker_that_says_nothing_is_not_touched(node: Node, monkeypatch: pytest.MonkeyPatch) -> None:
    """It may have calls."""
    monkeypatch.setattr(call_services, "worker_web_port", lambda _: 1)
    assert await node.services.restart(within_s=0) == ["borough-inference"]


async def test_one_that_does_not_start_is_named(node: Node) -> None:
    """A renewal goes back to the old certificates then."""
    (node.units / "broken").touch()
    with pytest.raises(RenderError, match="restart borough-calls@1"):
        await node.services.restart()
