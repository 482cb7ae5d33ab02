"""The hub sees who is turned away at its nats-server, and which links are of no region: real servers, real links."""

import asyncio
import contextlib
import os
import time
from collections.abc import Collection
from pathlib import Path

import nats.errors
import pytest
import structlog

from contract.nats_log import RefusalKind
from controlplane.fleet import border as border_module
from controlplane.fleet.border import RECENT_S, BorderWatch, Link, LinkWatch
from controlplane.metrics import HubMetrics
from provisioning.identity.names import ServiceRole
from tests.nats_network import Network, eventually, nats_network

REGION = "in-south"
LINE = '[1] 2026/11/23 08:03:42.651358 [ERR] 127.0.0.1:37062 - lid:8 - Publish Violation on "Jane Doe"\n'


def alarm(metrics: HubMetrics, code: str) -> float | None:
    return metrics.registry.get_sample_value("borough_hub_alarm", {"code": code})


async def try_a_strangers_certificate(network: Network) -> None:
    """A node's border user is no user of the hub's server."""
    with contextlib.suppress(nats.errors.Error, OSError, TimeoutError):
        async with asyncio.timeout(3):
            await nats.connect(
                f"tls://127.0.0.1:{network.hub.client_port}",
                tls=network.context(network.node(REGION).service(ServiceRole.BORDER)),
                allow_reconnect=False,
                error_cb=_ignore,
            )


async def _ignore(error: Exception) -> None:
    del error


async def test_who_is_refused_at_the_hub_and_links_of_no_region_are_seen(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(border_module, "LOOK_EVERY_S", 0.2)
    metrics = HubMetrics.create()
    known: Collection[str] = ()
    async with nats_network(tmp_path, {REGION: 1}) as network, asyncio.TaskGroup() as tasks:
        border = BorderWatch(network.deployment.instance(network.hub).files.log, metrics)
        links = LinkWatch(f"http://127.0.0.1:{network.hub.monitor_port}", lambda: known, metrics)
        running = [tasks.create_task(border.run()), tasks.create_task(links.run())]
        await network.linked(network.node(REGION))

        async def is_refused() -> bool:
            await try_a_strangers_certificate(network)
            return border.recent().get(RefusalKind.AUTHENTICATION, 0) > 0

        async def is_unknown() -> bool:
            return links.unknown == (Link(region=REGION, node=network.node(REGION).name),)

        async def is_known() -> bool:
            return links.unknown == ()

        await eventually(is_refused)
        assert alarm(metrics, "border_refused") == 1
        await eventually(is_unknown, within_s=15)
        assert alarm(metrics, "link_unknown") == 1
        known = (REGION,)
        await eventually(is_known, within_s=15)
        assert alarm(metrics, "link_unknown") == 0
        for task in running:
            task.cancel()


async def test_refusals_are_forgotten_after_an_hour_and_lines_are_whole(tmp_path: Path) -> None:
    """Half a line waits for its rest, and a rotated log is read to its end."""
    now = 0.0
    log = tmp_path / "nats.log"
    log.write_text(LINE)
    border = BorderWatch(log, HubMetrics.create(), clock=lambda: now)
    async with asyncio.TaskGroup() as tasks:
        running = tasks.create_task(border.run())

        async def seen(count: int) -> None:
            async def is_so() -> bool:
                return border.recent().get(RefusalKind.PUBLISH, 0) == count

            await eventually(is_so)

        await asyncio.sleep(0)
        await asyncio.sleep(0)
        with log.open("a") as file:
            file.write(LINE + LINE[:30])
            file.flush()
            await seen(1)
            file.write(LINE[30:])
        await seen(2)
        log.rename(tmp_path / "nats.log.1")
        log.write_text(LINE)
        await seen(3)
        now = RECENT_S + 1
        assert border.recent() == {}
        running.cancel()


async def test_a_flood_is_told_of_once_and_counted_whole(tmp_path: Path) -> None:
    """What was rotated away unread is counted by its bytes, and is an alarm."""
    log, metrics = tmp_path / "nats.log", HubMetrics.create()
    log.write_text("")
    border = BorderWatch(log, metrics)
    with structlog.testing.capture_logs() as told:
        async with asyncio.TaskGroup() as tasks:
            running = tasks.create_task(border.run())
            await asyncio.sleep(0)
            await asyncio.sleep(0)
            log.write_text(LINE * 1000)

            async def is_counted() -> bool:
                return border.recent().get(RefusalKind.PUBLISH, 0) == 1000

            await eventually(is_counted)
            log.rename(tmp_path / "nats.log.1")
            between = tmp_path / "nats.log.2"
            between.write_text(LINE)
            os.utime(between, ns=(time.time_ns() + 10**9,) * 2)
            log.write_text("")

            async def is_skipped() -> bool:
                return metrics.registry.get_sample_value("borough_hub_border_log_skipped_bytes_total") == len(LINE)

            await eventually(is_skipped)
            running.cancel()
    assert [line["count"] for line in told if line["event"] == "border_refused"] == [1]


def test_a_links_name_that_is_no_name_is_not_shown() -> None:
    links = LinkWatch("http://127.0.0.1:1", lambda: [REGION], HubMetrics.create())
    links.compare({"leafs": [{"account": f"LINK_{REGION}", "name": "Jane Doe 4111111"}]})
    assert links.unknown == (Link(region=REGION, node=""),)
    links.compare({"leafs": None})
    assert not links.unknown
