"""`borough fleet`: which node runs what, and in which state it is (fleet_states.py)."""

import sys
from pathlib import Path

import click

from contract import admin_pb2 as pb
from contract.admin_pb2_grpc import FleetStub
from contract.downlink_pb2 import NODE_STATE_ACTIVE, NODE_STATE_UNSPECIFIED, NodeState
from contract.uplink_pb2 import SUBJECT_BUNDLE, Ack, Refusal
from controlplane.cli.connection import WITHIN_S, admin_channel, context_option, hub_errors
from controlplane.cli.fleet_states import cordon, drain, remove, uncordon
from controlplane.cli.printing import age, duration, name_of, show_json, show_table

# For scripts that wait: with --check, something is not as it should be.
EXIT_NOT_WELL = 1


@click.group()
def fleet() -> None:
    """Nodes of all regions."""


for _command in (cordon, drain, remove, uncordon):
    fleet.add_command(_command)


@fleet.command()
@click.option("--region", default="", help="Only this region.")
@click.option("--check", is_flag=True, help="Exit code 1 unless every node is heard, without drift and refusals.")
@click.option("--json", "as_json", is_flag=True, help="Print the reply as JSON.")
@context_option
def status(region: str, check: bool, as_json: bool, context: Path | None) -> None:
    """Show what every node runs, its state, age, release, drift, refusals and alarms."""
    with admin_channel(context) as channel, hub_errors():
        reply = FleetStub(channel).Status(pb.FleetRequest(region=region), timeout=WITHIN_S)
    if as_json:
        show_json(reply)
    else:
        _show(reply)
    nodes = [node for part in reply.regions for node in part.nodes]
    is_well = bool(nodes) and not any(node.is_silent or node.is_drifted or node.HasField("refused") for node in nodes)
    if check and not is_well:
        sys.exit(EXIT_NOT_WELL)


def _show(reply: pb.FleetReply) -> None:
    rows = [_row(region, node) for region in reply.regions for node in region.nodes]
    for region in reply.regions:
        since = f", {age(region.bundle_created_at_ms)} old" if region.bundle_version else ""
        told = f"bundle {region.bundle_version}{since}" if region.bundle_version else "no bundle"
        click.echo(f"{region.region}: {told}, {len(region.nodes)} nodes")
        for refused in region.refused_documents:
            click.echo(_refused_document(region, refused))
    if reply.border_refusals:
        kinds = ", ".join(f"{refusals.count} {refusals.kind}" for refusals in reply.border_refusals)
        click.echo(f"refused at the border in the last hour: {kinds}")
    for link in reply.unknown_links:
        click.echo(f"link that no document names: region {link.region or '?'}, server {link.node or '?'}")
    if rows:
        show_table(("REGION", "NODE", "STATE", "RELEASE", "BUNDLE", "KNOWLEDGE", "CALLS", "HEARD", "ALARMS"), rows)


def _refused_document(region: pb.RegionStatus, refused: pb.RefusedDocument) -> str:
    kind = refused.document.kind.lower()
    names = [f"{kind} {name_of(ref)}" for ref in refused.candidates or (refused.document,)]
    by = "every node refuses" if refused.by_all else f"{', '.join(refused.nodes)} refuse"
    return (
        f"{region.region}: {by} bundle {region.bundle_version} for {' or '.join(names)}; "
        f"mend it, or `borough rollback {names[0]}`"
    )


def _row(region: pb.RegionStatus, node: pb.NodeStatus) -> tuple[str, ...]:
    health = node.health
    knowledge = ",".join(f"{part.tenant}:{part.version}" for part in health.knowledge)
    return (
        region.region,
        node.node,
        _state(node),
        health.release or "-",
        f"{health.bundle_version}/{region.bundle_version}",
        knowledge or "-",
        f"{health.capacity.slots_used_peak}/{health.capacity.slots}",
        f"{duration(node.age_ms)} ago",
        ",".join(health.alarms) or "-",
    )


def _state(node: pb.NodeStatus) -> str:
    return ", ".join((_well(node), *_rotation(node)))


def _well(node: pb.NodeStatus) -> str:
    if node.is_silent:
        return "silent"
    if node.HasField("refused"):
        return f"refused {_refusal(node.refused)}"
    return "drifted" if node.is_drifted else "ok"


def _rotation(node: pb.NodeStatus) -> list[str]:
    """Why the node takes no calls, or that it should not and does."""
    said = NodeState.Name(node.state).removeprefix("NODE_STATE_").lower()
    if node.state not in (NODE_STATE_UNSPECIFIED, NODE_STATE_ACTIVE):
        return [said] if node.health.is_cordoned or node.is_silent else [f"{said} (not yet)"]
    return ["cordoned on the node"] if node.health.is_cordoned else []


def _refusal(ack: Ack) -> str:
    what = "bundle" if ack.subject == SUBJECT_BUNDLE else f"knowledge of {ack.tenant}"
    reason = Refusal.Name(ack.refusal).removeprefix("REFUSAL_").lower()
    document = f" {ack.document_kind} {ack.document_name}" if ack.document_name else ""
    return f"{what} {ack.version}: {reason}{document}"
