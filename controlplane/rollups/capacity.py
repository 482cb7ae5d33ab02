"""SQL of how full the nodes were. Runs inside HubDatabase's threads."""

from dataclasses import dataclass

import apsw

from contract.uplink_pb2 import Rollup
from controlplane.rollups.store import Selection

_MINUTE_MS = 60_000
_ADD = (
    " ON CONFLICT DO UPDATE SET slots = max(slots, excluded.slots), used_peak = max(used_peak, excluded.used_peak),"
    " refused = refused + excluded.refused"
)


@dataclass(frozen=True, slots=True, kw_only=True)
class NodeCapacity:
    """The most of a stretch of time; `refused` is the sum."""

    region: str
    node: str
    slots: int
    used_peak: int
    refused: int


def add(connection: apsw.Connection, rollup: Rollup, now_ms: int) -> None:
    """Note what a rollup tells of its node, which may have a clock that is ahead."""
    told = rollup.capacity
    if told.slots or told.slots_used_peak or told.refused:
        minute = min(rollup.cut_at_ms, now_ms) // _MINUTE_MS
        row = (rollup.region, rollup.node, minute, told.slots, told.slots_used_peak, told.refused)
        connection.execute(f"INSERT INTO rollup_capacity VALUES (?, ?, ?, ?, ?, ?){_ADD}", row)  # noqa: S608


def read(connection: apsw.Connection, selection: Selection) -> list[NodeCapacity]:
    """By region and node; an hour is chosen by its first minute. The tenant does not matter."""
    rows = connection.execute(
        "SELECT region, node, max(slots), max(used_peak), sum(refused) FROM rollup_capacity"
        " WHERE minute >= ?1 AND (?2 IS NULL OR minute < ?2) AND ?3 IN ('', region) GROUP BY region, node"
        " ORDER BY region, node",
        (selection.first_minute, selection.end_minute, selection.region),
    )
    return [
        NodeCapacity(
            region=str(row[0]), node=str(row[1]), slots=int(row[2]), used_peak=int(row[3]), refused=int(row[4])
        )
        for row in rows
    ]


def tidy(connection: apsw.Connection, *, minutes_before: int, hours_before: int) -> None:
    """Merge minutes that are old into hours, delete hours that are too old; both are minutes since 1970."""
    minutes_before -= minutes_before % 60
    connection.execute(
        "INSERT INTO rollup_capacity SELECT region, node, minute - minute % 60, max(slots), max(used_peak),"  # noqa: S608
        f" sum(refused) FROM rollup_capacity WHERE minute < ? AND minute % 60 != 0 GROUP BY 1, 2, 3{_ADD}",
        (minutes_before,),
    )
    connection.execute("DELETE FROM rollup_capacity WHERE minute < ? AND minute % 60 != 0", (minutes_before,))
    connection.execute("DELETE FROM rollup_capacity WHERE minute < ?", (hours_before,))
