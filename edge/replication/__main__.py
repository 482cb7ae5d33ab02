"""`python -m edge.replication --config replication.toml`: keep a replica of every database of this node in the region.

Ready: connected to NATS, databases watched. Stop (SIGTERM): the Litestreams upload what is left. Whatever NATS does,
this process waits for it; calls do not.
"""

import argparse
import asyncio
import signal
import sys
from collections.abc import Awaitable, Callable, Mapping
from contextlib import AsyncExitStack
from pathlib import Path

import structlog
import uvloop
from aiohttp import web

from contract.errors import BoroughError
from edge.exit_status import exit_status
from edge.observability.logs import configure_logging
from edge.observability.supervision import Supervision
from edge.replication.metrics import ReplicationMetrics
from edge.replication.service import ReplicationService
from edge.replication.settings import ReplicationSettings
from edge.settings_file import load_settings
from edge.sync.alarms import Alarms
from edge.sync.connection import NatsLink
from edge.sync.expiry import CertificateWatch
from edge.sync.settings import NatsSection

log = structlog.get_logger(__name__)

SHOW_EVERY_S = 1.0


async def serve(settings: ReplicationSettings) -> None:
    """Replicate until SIGTERM or SIGINT. Raises BoroughError."""
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    metrics = ReplicationMetrics.create()
    nats = NatsSection(urls=settings.nats.urls, ca=settings.nats.ca)
    link = NatsLink("replication", nats, settings.nats.agent)
    lags: dict[str, float] = {}
    async with AsyncExitStack() as stack:
        supervision = stack.enter_context(Supervision(describe=lambda: _status(lags)))
        supervision.starting("waits for NATS")
        await _serve_metrics(settings.watch.port, metrics, stack)
        tasks = await stack.enter_async_context(asyncio.TaskGroup())
        running = [tasks.create_task(link.run(), name="replication:nats")]
        alarms = Alarms(metrics.registry)
        roles = {"agent": settings.nats.agent, "litestream": settings.nats.litestream}
        certificates = CertificateWatch(roles, alarms, metrics.registry)
        running.append(tasks.create_task(certificates.run(), name="replication:certificates"))

        async def service() -> ReplicationService:
            return ReplicationService(settings, await link.ready(), alarms)

        running.append(tasks.create_task(_replicate(service, metrics, supervision, lags), name="replication"))
        await stop.wait()
        supervision.stopping("uploads what is left")
        for task in reversed(running):
            task.cancel()


async def _replicate(
    service: Callable[[], Awaitable[ReplicationService]],
    metrics: ReplicationMetrics,
    supervision: Supervision,
    lags: dict[str, float],
) -> None:
    running = await service()
    async with asyncio.TaskGroup() as tasks:
        tasks.create_task(running.run(), name="replication:service")
        supervision.ready()
        while True:
            lags.update(running.watch.lags)
            metrics.show(lags, running.watch.uploads)
            await asyncio.sleep(SHOW_EVERY_S)


def _status(lags: Mapping[str, float]) -> str:
    return f"{len(lags)} databases, {max(lags.values(), default=0.0):.0f} s behind"


async def _serve_metrics(port: int, metrics: ReplicationMetrics, stack: AsyncExitStack) -> None:
    app = web.Application()
    app.add_routes([metrics.route()])
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    stack.push_async_callback(runner.cleanup)
    await web.TCPSite(runner, "127.0.0.1", port).start()


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m edge.replication", description=__doc__)
    parser.add_argument("--config", type=Path, required=True)
    path = parser.parse_args().config
    errors: list[BaseException] = []
    try:
        settings = load_settings(path, ReplicationSettings)
        configure_logging(worker=f"replication-{settings.node.name}")
        uvloop.run(serve(settings))
    except* BoroughError as group:
        errors += group.exceptions
    if errors:
        sys.stderr.write("".join(f"{error}\n" for error in errors))
        sys.exit(exit_status(errors))


if __name__ == "__main__":
    main()
