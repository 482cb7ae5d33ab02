"""A process that takes rollups from a stream into a store until it is killed: `python -m` with database and URL."""

import asyncio
import sys
from pathlib import Path

import nats
from prometheus_client import CollectorRegistry

from controlplane.database import HubDatabase
from controlplane.rollups.ingest import RollupIngest
from controlplane.rollups.metrics import RollupMetrics
from tests.controlplane.rollups.reports import Names


async def main(path: Path, url: str) -> None:
    client = await nats.connect(url)
    async with HubDatabase(path) as database:
        metrics = RollupMetrics.create(CollectorRegistry())
        await RollupIngest(client, database, names=Names(), metrics=metrics, ack_wait_s=2.0).run()


if __name__ == "__main__":
    asyncio.run(main(Path(sys.argv[1]), sys.argv[2]))
