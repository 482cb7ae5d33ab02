"""The Metrics service of the admin API: what happened on the calls of all regions."""

import time

import apsw

from contract import admin_pb2 as pb
from contract.admin_pb2_grpc import MetricsServicer
from contract.uplink_pb2 import Sketch
from controlplane.admin.callers import CallContext, Role, require
from controlplane.database import HubDatabase
from controlplane.rollups import capacity, store
from controlplane.rollups.querying import Group, grouped, summary
from controlplane.rollups.store import Selection

MINUTE_MS = 60_000
# Asked without a time, the newest day is told.
DEFAULT_MS = 24 * 60 * MINUTE_MS


class MetricsService(MetricsServicer):
    """Viewers read."""

    def __init__(self, database: HubDatabase) -> None:
        self._database = database

    async def Query(self, request: pb.MetricsRequest, context: CallContext) -> pb.MetricsReply:  # noqa: N802
        require(context, Role.VIEWER)
        since_ms = request.since_ms or time.time_ns() // 1_000_000 - DEFAULT_MS
        selection = Selection(
            region=request.region,
            tenant=request.tenant,
            first_minute=since_ms // MINUTE_MS,
            end_minute=request.until_ms // MINUTE_MS if request.until_ms else None,
        )
        return await self._database.read(lambda connection: _reply(connection, selection, by_intent=request.by_intent))


def _reply(connection: apsw.Connection, selection: Selection, *, by_intent: bool) -> pb.MetricsReply:
    nodes = store.read_nodes(connection)
    groups = grouped(store.read_entries(connection, selection), by_intent=by_intent)
    nodes_full = [] if selection.tenant else capacity.read(connection, selection)
    return pb.MetricsReply(
        rows=[_row(group) for group in groups],
        rollups_counted=sum(node.counted for node in nodes),
        rollups_repeated=sum(node.repeated for node in nodes),
        rollups_refused=store.count_refusals(connection) + sum(node.conflicting for node in nodes),
        capacity=[
            pb.NodeCapacity(
                region=one.region,
                node=one.node,
                slots=one.slots,
                slots_used_peak=one.used_peak,
                refused=one.refused,
            )
            for one in nodes_full
        ],
    )


def _row(group: Group) -> pb.MetricsRow:
    calls, turns, key = group.calls, group.turns, group.key
    return pb.MetricsRow(
        region=key.region,
        tenant=key.tenant,
        agent=key.agent,
        intent=key.intent,
        calls=calls.total,
        contained=calls.contained,
        escalated=sum(calls.escalated.values()),
        abandoned=calls.abandoned,
        failed=calls.failed,
        repeated=calls.repeated,
        turns=turns.total,
        silent=turns.silent,
        response_ms=_percentiles(turns.response_ms),
        first_audio_ms=_percentiles(calls.first_audio_ms),
        recognise_queue_ms=_percentiles(turns.recognise_queue_ms),
        escalated_by_reason=dict(calls.escalated),
        abandoned_by_turn=dict(calls.abandoned_by_turn),
        confidence=turns.confidence,
    )


def _percentiles(sketch: Sketch) -> pb.Percentiles:
    found = summary(sketch)
    return pb.Percentiles(count=found.count, p50=found.p50, p95=found.p95, p99=found.p99, maximum=found.maximum)
