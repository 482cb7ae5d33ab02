"""`borough metrics`: how the calls of all regions went."""

import re
import time
from collections.abc import Sequence
from pathlib import Path

import click

from contract import admin_pb2 as pb
from contract.admin_pb2_grpc import MetricsStub
from controlplane.cli.connection import WITHIN_S, admin_channel, context_option, hub_errors
from controlplane.cli.printing import show_json, show_table

UNITS_MS = {"m": 60_000, "h": 3_600_000, "d": 86_400_000}
HEADER = (
    *("REGION", "TENANT", "CALLS", "CONTAINED", "FCR", "ESCALATED", "ABANDONED", "FAILED"),
    *("P50", "P95", "P99", "QUEUE P95", "SILENT"),
)
NODE_HEADER = ("REGION", "NODE", "SLOTS USED", "REFUSED")
REASONS_SHOWN = 3


class Ago(click.ParamType[int]):
    """A stretch of time that ends now: 30m, 24h, 7d. Converted to milliseconds."""

    name = "time"

    def convert(self, value: object, param: click.Parameter | None, ctx: click.Context | None) -> int:
        match = re.fullmatch(r"([1-9]\d{0,4})([mhd])", str(value))
        if match is None:
            self.fail(f"{value!r} is no time: 30m, 24h, 7d", param, ctx)
        return int(match.group(1)) * UNITS_MS[match.group(2)]


@click.command()
@click.option("--region", default="", help="Only this region.")
@click.option("--tenant", default="", help="Only this tenant.")
@click.option("--since", "since_ms", type=Ago(), default="24h", show_default=True, help="How far back: 30m, 24h, 7d.")
@click.option("--by-intent", is_flag=True, help="A row for each agent and intent.")
@click.option("--json", "as_json", is_flag=True, help="Print the reply as JSON, with all reasons, turns and bins.")
@context_option
def metrics(
    region: str,
    tenant: str,
    since_ms: int,
    by_intent: bool,
    as_json: bool,
    context: Path | None,
) -> None:
    """Show containment, first-call resolution and latency by region and tenant.

    FCR is the share of calls whose caller had not called the tenant on the same node within 24 hours. Percentiles are
    of the response, in ms. For each node: the most slots that were in use, of how many, and the callers refused.
    """
    request = pb.MetricsRequest(
        region=region, tenant=tenant, since_ms=time.time_ns() // 1_000_000 - since_ms, by_intent=by_intent
    )
    with admin_channel(context) as channel, hub_errors():
        reply = MetricsStub(channel).Query(request, timeout=WITHIN_S)
    if as_json:
        show_json(reply)
        return
    _show(reply, by_intent=by_intent)


def _show(reply: pb.MetricsReply, *, by_intent: bool) -> None:
    header = (*HEADER[:2], "AGENT", "INTENT", *HEADER[2:]) if by_intent else HEADER
    show_table(header, [_cells(row, by_intent=by_intent) for row in reply.rows])
    if not by_intent:
        for row in reply.rows:
            for line in _notes(row):
                click.echo(f"{row.region}/{row.tenant}: {line}")
        if reply.capacity:
            click.echo()
            show_table(NODE_HEADER, [_node_cells(node) for node in reply.capacity])
            click.echo()
    click.echo(
        f"{reply.rollups_counted} rollups counted, {reply.rollups_repeated} came again, {reply.rollups_refused} refused"
    )


def _cells(row: pb.MetricsRow, *, by_intent: bool) -> Sequence[str]:
    response = row.response_ms
    counts = (
        str(row.calls),
        _share(row.contained, row.calls),
        _share(row.calls - row.repeated, row.calls),
        _share(row.escalated, row.calls),
        _share(row.abandoned, row.calls),
        _share(row.failed, row.calls),
        *(_ms(value, response.count) for value in (response.p50, response.p95, response.p99)),
        _ms(row.recognise_queue_ms.p95, row.recognise_queue_ms.count),
        _share(row.silent, row.turns),
    )
    where = (row.region, row.tenant, row.agent, row.intent or "-") if by_intent else (row.region, row.tenant)
    return (*where, *counts)


def _node_cells(node: pb.NodeCapacity) -> Sequence[str]:
    return node.region, node.node, f"{node.slots_used_peak}/{node.slots}", str(node.refused)


def _notes(row: pb.MetricsRow) -> Sequence[str]:
    """What callers were handed over for, and where they hung up."""
    notes = []
    reasons = sorted(row.escalated_by_reason.items(), key=lambda reason: -reason[1])[:REASONS_SHOWN]
    if reasons:
        notes.append("escalated: " + ", ".join(f"{reason} {number}" for reason, number in reasons))
    turns = sorted(row.abandoned_by_turn.items())
    if turns:
        notes.append("abandoned in turn: " + ", ".join(f"{turn}: {number}" for turn, number in turns))
    return notes


def _share(part: int, whole: int) -> str:
    return f"{100 * part / whole:.1f}%" if whole else "-"


def _ms(value: float, count: int) -> str:
    return f"{value:.0f}" if count else "-"
