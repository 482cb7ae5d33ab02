"""`borough node drain`, `undrain`, `status`: in and out of the rotation."""

import asyncio
import json
from datetime import UTC, datetime
from pathlib import Path

import click

from provisioning.node.cli.options import json_option, root_option
from provisioning.node.description import HubDescription
from provisioning.node.errors import DrainError
from provisioning.node.inputs import Inputs
from provisioning.node.machine import Machine
from provisioning.node.rotation import CordonReason, Rotation
from provisioning.node.stopping import ADDRESS, Stopping

DRAINED_WITHIN_S = 600.0
# Shown red from here on: as `borough identity list` does.
EXPIRES_SOON_DAYS = 21.0


@click.command()
@click.option(
    "--deadline",
    "deadline_s",
    type=click.FloatRange(min=0),
    default=DRAINED_WITHIN_S,
    show_default=True,
    help="Seconds to wait for running calls.",
)
@click.option(
    "--stop",
    "stops",
    is_flag=True,
    help="Give the region's address away; at the end stop all services in order. Calls that still run are ended.",
)
@root_option
@json_option
def drain(deadline_s: float, stops: bool, root: Path, as_json: bool) -> None:
    """Take no new calls and wait until those that run have ended. Fails if some still run at the deadline."""
    inputs = Inputs(Machine(root))
    rotation = Rotation(inputs.machine)
    rotation.close()
    before = rotation.running_calls()
    if stops:
        left, stopped = asyncio.run(_drain_and_stop(Stopping(inputs.node()), rotation, deadline_s))
    else:
        left, stopped = asyncio.run(rotation.until_empty(deadline_s)), []
    document = {"cordoned": True, "running_before": before, "running": left}
    if as_json:
        click.echo(json.dumps(document | ({"stopped": stopped} if stops else {})))
    if stops:
        if not as_json:
            click.echo(f"stopped: {before - left} calls ended, {left} were ended; {' '.join(stopped)}")
        return
    if left:
        raise DrainError(f"{left} calls still run after {deadline_s:.0f} s; the node takes no new ones")
    if not as_json:
        click.echo(f"drained: no call runs, {before} ended; `borough node undrain` takes calls again")


@click.command()
@root_option
@json_option
def undrain(root: Path, as_json: bool) -> None:
    """Take new calls again, if `drain` was why not; a node that was not tested stays cordoned."""
    rotation = Rotation(Machine(root))
    changed = rotation.open(CordonReason.DRAINED)
    reason, is_isolated = rotation.reason(), rotation.is_isolated
    if as_json:
        click.echo(json.dumps({"changed": changed, "cordoned": reason is not None or is_isolated}))
    elif reason is not None:
        click.echo("still cordoned: the self-test has not passed since the node was started")
    elif is_isolated:
        click.echo("still cordoned: the node hears no majority of its siblings, and takes calls once it does")
    else:
        click.echo("takes calls" if changed else "takes calls already")


@click.command()
@root_option
@json_option
def status(root: Path, as_json: bool) -> None:
    """What this machine is, whether it takes calls, and how long its certificates are good."""
    document = _status(Inputs(Machine(root)))
    if as_json:
        click.echo(json.dumps(document))
        return
    for key, value in document.items():
        if key != "certificates":
            click.echo(f"{key:<16}{value}")
    for role, days in document["certificates"].items():  # type: ignore[attr-defined]
        click.secho(f"  {role:<14}{days:.0f} days left", fg="red" if days < EXPIRES_SOON_DAYS else None)


def _status(inputs: Inputs) -> dict[str, object]:
    found, now = inputs.description(), datetime.now(UTC)
    folder = inputs.identity()
    days = {str(held.role): round(held.expires_in_days(now), 2) for held in folder.held()} if folder.is_enrolled else {}
    document: dict[str, object] = {
        "kind": "hub" if isinstance(found, HubDescription) else "node",
        "name": found.name,
        "address": found.address,
        "enrolled": folder.is_enrolled,
    }
    if not isinstance(found, HubDescription):
        rotation = Rotation(inputs.machine)
        reason = rotation.reason()
        document |= {
            "region": found.region,
            "hub": found.hub.address,
            "cordoned": _why(reason, rotation),
            "running_calls": rotation.running_calls(),
            "capacity": found.capacity,
            "bundle": inputs.bundle_version(),
        }
    if days:
        document["expires_in_days"] = min(days.values())
    return document | {"certificates": days}


def _why(reason: CordonReason | None, rotation: Rotation) -> str:
    """Empty: it takes calls."""
    whys = {str(reason): reason is not None, "by-hub": rotation.is_cordoned_by_hub, "isolated": rotation.is_isolated}
    return " ".join(why for why, is_so in whys.items() if is_so)


async def _drain_and_stop(stopping: Stopping, rotation: Rotation, deadline_s: float) -> tuple[int, list[str]]:
    """How many calls still ran, and what was stopped."""
    first = [ADDRESS] if await stopping.give_address_away() else []
    left = await rotation.until_empty(deadline_s)
    return left, [*first, *await stopping.stop()]
