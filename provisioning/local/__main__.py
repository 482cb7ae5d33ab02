"""The supervisor process behind `borough up`: runs hub and regions until it is told to stop."""

import argparse
import asyncio
import signal
import sys
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

from contract.errors import BoroughError
from provisioning.local.layout import StateLayout
from provisioning.local.machine import MachineOptions, local_machine
from provisioning.nats.deployment import Deployment


async def supervise(options: MachineOptions) -> None:
    """Run hub and regions until SIGTERM or SIGINT; at SIGHUP take over certificates that were changed."""
    stop, changed = asyncio.Event(), asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    loop.add_signal_handler(signal.SIGHUP, changed.set)
    async with local_machine(options) as deployment, asyncio.TaskGroup() as tasks:
        reloading = tasks.create_task(_reload_when(changed, deployment), name="reload")
        await stop.wait()
        reloading.cancel()


async def _reload_when(changed: asyncio.Event, deployment: Deployment | None) -> None:
    while True:
        await changed.wait()
        changed.clear()
        if deployment is not None:
            try:
                await deployment.apply(datetime.now(UTC))
            except BoroughError as error:
                sys.stderr.write(f"certificates were not taken over: {error}\n")


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m provisioning.local", description=__doc__)
    parser.add_argument("--state", type=Path, required=True)
    parser.add_argument("--regions", required=True)
    parser.add_argument("--tenants", type=Path, required=True)
    parser.add_argument("--workers", type=int, required=True)
    parser.add_argument("--capacity", type=int, required=True)
    parser.add_argument("--no-sip", action="store_true")
    parser.add_argument("--no-hub", action="store_true")
    given = parser.parse_args()
    options = MachineOptions(
        layout=StateLayout(given.state),
        regions=given.regions,
        tenants=given.tenants,
        workers=given.workers,
        capacity=given.capacity,
        sip=not given.no_sip,
        hub=not given.no_hub,
    )
    complaints: list[str] = []
    try:
        asyncio.run(supervise(options))
    except* BoroughError as group:
        complaints += [f"{error}\n" for error in _leaves(group)]
    if complaints:
        sys.stderr.write("".join(complaints))
        sys.exit(1)


def _leaves(group: BaseExceptionGroup[BoroughError]) -> Iterator[BaseException]:
    for error in group.exceptions:
        if isinstance(error, BaseExceptionGroup):
            yield from _leaves(error)
        else:
            yield error


if __name__ == "__main__":
    main()
