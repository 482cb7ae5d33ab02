"""What nodes and hub counted of the same calls, read from their own databases."""

import asyncio
import contextlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import apsw

from bench.hub import Hub
from bench.target import Target
from provisioning.local.layout import StateLayout

Row = tuple[Any, ...]
# Region, node, number and digest of a rollup.
RollupId = tuple[str, str, int, bytes]


@dataclass(frozen=True, slots=True, kw_only=True)
class CallCounts:
    """Ended calls by region: in the nodes' databases, in rollups that the hub acknowledged, in the hub's store."""

    recorded: dict[str, int]
    acknowledged: dict[str, int]
    counted: dict[str, int]


async def count_calls(layout: StateLayout, targets: Sequence[Target]) -> CallCounts:
    """Count now. Raises HubUnreachableError."""
    recorded: dict[str, int] = {target.region: 0 for target in targets}
    acknowledged = dict(recorded)
    for target in targets:
        recorded[target.region] += await asyncio.to_thread(_ended_calls, target.records)
        acknowledged[target.region] += await asyncio.to_thread(_acknowledged_calls, target)
    async with Hub(layout) as hub:
        counted = await hub.calls_by_region()
    return CallCounts(
        recorded=recorded, acknowledged=acknowledged, counted={region: counted.get(region, 0) for region in recorded}
    )


def is_complete(before: CallCounts, now: CallCounts) -> bool:
    """Whether the hub has counted every call that ended since `before`."""
    return _difference(now.counted, before.counted) == _difference(now.recorded, before.recorded)


def compare_counts(before: CallCounts, after: CallCounts) -> dict[str, dict[str, int]]:
    """The calls of a run as each side counted them."""
    return {
        "calls_in_records": _difference(after.recorded, before.recorded),
        "calls_in_ledgers": _difference(after.acknowledged, before.acknowledged),
        "calls_counted_by_hub": _difference(after.counted, before.counted),
    }


def compare_rollups(layout: StateLayout, targets: Sequence[Target]) -> dict[str, Any]:
    """Every rollup that a ledger holds as acknowledged against those that the hub counted, by number and digest."""
    sent: set[RollupId] = set()
    for target in targets:
        rows = _rows(_ledger(target), "SELECT seq, sha256 FROM confirmed")
        sent |= {(target.region, target.node, seq, digest) for seq, digest in rows}
    nodes = {(target.region, target.node) for target in targets}
    rows = _rows(layout.hub.records / "hub.db", "SELECT region, node, seq, sha256 FROM rollup_seqs")
    counted = {(region, node, seq, digest) for region, node, seq, digest in rows if (region, node) in nodes}
    return {"rollups": len(sent), "is_exactly_once": sent == counted}


def _ledger(target: Target) -> Path:
    return target.sync / "rollups.db"


def _ended_calls(records: Path) -> int:
    paths = sorted(records.glob("*.sqlite3"))
    return sum(int(_rows(path, "SELECT count(*) FROM ended_calls")[0][0]) for path in paths)


def _acknowledged_calls(target: Target) -> int:
    rows = _rows(_ledger(target), "SELECT coalesce(sum(calls), 0) FROM totals WHERE is_confirmed")
    return int(rows[0][0]) if rows else 0


def _rows(path: Path, sql: str) -> list[Row]:
    if not path.exists():
        return []
    with contextlib.closing(apsw.Connection(str(path), flags=apsw.SQLITE_OPEN_READONLY)) as database:
        return database.execute(sql).fetchall()


def _difference(after: dict[str, int], before: dict[str, int]) -> dict[str, int]:
    return {region: after[region] - before[region] for region in after}
