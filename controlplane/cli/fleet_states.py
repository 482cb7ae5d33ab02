"""`borough fleet cordon|drain|uncordon|remove`: who takes calls, and who belongs to a region."""

import json
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import click
import grpc

from contract import admin_pb2 as pb
from contract.admin_pb2_grpc import FleetStub
from contract.downlink_pb2 import (
    NODE_STATE_ACTIVE,
    NODE_STATE_CORDONED,
    NODE_STATE_DRAINING,
    NODE_STATE_REMOVED,
    NodeState,
)
from controlplane.cli.connection import WITHIN_S, admin_channel, context_option, hub_errors

# For scripts: the deadline came first; the node stays as it is.
EXIT_STILL_BUSY = 3
LOOK_EVERY_S = 0.5
DEFAULT_DEADLINE_S = 900.0
PREFIX = "NODE_STATE_"

Command = TypeVar("Command", bound=Callable[..., object])


@dataclass(frozen=True, slots=True, kw_only=True)
class Drained:
    """How a drain ended. `calls` are those that still ran; -1 where the node does not say."""

    is_done: bool
    calls: int
    waited_s: float


def _options(command: Command) -> Command:
    """What all four have in common."""
    for option in (
        context_option,
        click.option("--json", "as_json", is_flag=True, help="Print what became of the node as JSON."),
        click.option("--region", default="", help="Needed where nodes of two regions have this name."),
        click.argument("node"),
    ):
        command = option(command)
    return command


@click.command()
@_options
def cordon(node: str, region: str, as_json: bool, context: Path | None) -> None:
    """Have NODE refuse new calls; running calls go on."""
    with admin_channel(context) as channel:
        _show(_set(channel, region, node, NODE_STATE_CORDONED), as_json=as_json)


@click.command()
@_options
def uncordon(node: str, region: str, as_json: bool, context: Path | None) -> None:
    """Have NODE take new calls again."""
    with admin_channel(context) as channel:
        _show(_set(channel, region, node, NODE_STATE_ACTIVE), as_json=as_json)


@click.command()
@_options
@click.option("--deadline", "deadline_s", type=click.FloatRange(min=0), default=DEFAULT_DEADLINE_S, show_default=True)
def drain(node: str, region: str, as_json: bool, context: Path | None, deadline_s: float) -> None:
    """Have NODE refuse new calls, and wait until it has none; exit code 3 if the deadline (seconds) comes first."""
    with admin_channel(context) as channel:
        reply = _set(channel, region, node, NODE_STATE_DRAINING)
        drained = _wait(channel, reply, deadline_s)
    _show(reply, drained, as_json=as_json)
    if not drained.is_done:
        sys.exit(EXIT_STILL_BUSY)


@click.command()
@_options
@click.option("--deadline", "deadline_s", type=click.FloatRange(min=0), default=DEFAULT_DEADLINE_S, show_default=True)
@click.option("--force", is_flag=True, help="Do not wait for its calls: the node is lost.")
@click.confirmation_option(
    "--yes", prompt="Revoke all its certificates and take it out of its region?", help="Do not ask."
)
def remove(node: str, region: str, as_json: bool, context: Path | None, deadline_s: float, force: bool) -> None:
    """Drain NODE, revoke its certificates, and take it out of its region; exit code 3 if it still has calls."""
    with admin_channel(context) as channel:
        drained = None
        if not force:
            drained = _wait(channel, draining := _set(channel, region, node, NODE_STATE_DRAINING), deadline_s)
            if not drained.is_done:
                _show(draining, drained, as_json=as_json)
                sys.exit(EXIT_STILL_BUSY)
        _show(_set(channel, region, node, NODE_STATE_REMOVED, force=force), drained, as_json=as_json)


def _set(
    channel: grpc.Channel, region: str, node: str, state: NodeState.ValueType, *, force: bool = False
) -> pb.NodeStateReply:
    request = pb.NodeStateRequest(region=region, node=node, state=state, force=force)
    with hub_errors():
        reply: pb.NodeStateReply = FleetStub(channel).SetState(request, timeout=WITHIN_S)
    return reply


def _wait(channel: grpc.Channel, wanted: pb.NodeStateReply, deadline_s: float) -> Drained:
    """Until the node says that it refuses calls by this bundle and has none, or the deadline."""
    began = time.monotonic()
    while True:
        with hub_errors():
            reply = FleetStub(channel).Status(pb.FleetRequest(region=wanted.region), timeout=WITHIN_S)
        node = next((one for part in reply.regions for one in part.nodes if one.node == wanted.node), None)
        calls = -1 if node is None or node.is_silent else int(node.health.capacity.slots_used_peak)
        is_done = (
            node is not None
            and calls == 0
            and node.health.is_cordoned
            and node.health.bundle_version >= wanted.bundle_version
        )
        waited_s = time.monotonic() - began
        if is_done or waited_s >= deadline_s:
            return Drained(is_done=is_done, calls=calls, waited_s=waited_s)
        time.sleep(min(LOOK_EVERY_S, deadline_s - waited_s))


def _show(reply: pb.NodeStateReply, drained: Drained | None = None, *, as_json: bool) -> None:
    state, before = (NodeState.Name(one).removeprefix(PREFIX).lower() for one in (reply.state, reply.before))
    if as_json:
        report: dict[str, object] = {
            "region": reply.region,
            "node": reply.node,
            "state": state,
            "before": before,
            "bundle_version": int(reply.bundle_version),
        }
        if drained is not None:
            report |= {"is_drained": drained.is_done, "calls": drained.calls, "waited_s": round(drained.waited_s, 1)}
        click.echo(json.dumps(report, indent=2))
        return
    click.echo(f"{reply.region}/{reply.node}: {before} -> {state}, by bundle {reply.bundle_version}")
    if drained is not None:
        click.echo(f"  {_told(drained)} after {drained.waited_s:.0f} s", err=not drained.is_done)


def _told(drained: Drained) -> str:
    if drained.is_done:
        return "no calls"
    return "not heard: whether it has calls is not known" if drained.calls < 0 else f"still {drained.calls} calls"
