"""The bench's hand on the hub, against the real admin API."""

import time
from pathlib import Path

from bench.hub import Hub
from controlplane.database import HubDatabase
from controlplane.rollups import store
from edge.rollups.cut import count
from provisioning.local.layout import StateLayout
from tests.controlplane.rollups.reports import calls, payload, rollup
from tests.controlplane.rollups.test_service import serving

_TWO_DAYS_MS = 2 * 24 * 60 * 60_000


async def test_calls_of_all_days_are_counted(tmp_path: Path) -> None:
    """Counts of an earlier day belong to the sum that the nodes' ledgers are compared with."""
    now_ms = time.time_ns() // 1_000_000
    made = rollup(count(calls(20, 1, now_ms=now_ms - _TWO_DAYS_MS)))
    layout = StateLayout(tmp_path)
    async with HubDatabase(tmp_path / "hub.db") as database, serving(database, tmp_path) as context:
        await database.write(lambda connection: store.count(connection, made, payload(made), now_ms))
        layout.admin_context.parent.mkdir(parents=True)
        layout.admin_context.write_text(context.read_text())
        async with Hub(layout) as hub:
            counted = await hub.calls_by_region()
    assert counted == {"in-south": 20}
