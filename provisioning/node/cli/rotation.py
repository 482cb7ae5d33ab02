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
@root_option
@json_option
def drain(deadline_s: float, root: Path, as_json: bool) -> None:
    """Take no new calls and wait until those that run have ended. Fails if some still run at the deadline."""
    rotation = Rotation(Machine(root))
    rotation.close()
    before = rotation.running_calls()
    left = asyncio.run(rotation.until_empty(deadline_s))
    if as_json:
        click.echo(json.dumps({"cordoned": True, "running_before": before, "running": left}))
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
    reason = rotation.reason()
    if as_json:
        click.echo(json.dumps({"changed": changed, "cordoned": reason is not None}))
    elif reason is not None:
        click.echo("still cordoned: the self-test has not passed since the node was started")
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
            "cordoned": _why(reason, by_hub=rotation.is_cordoned_by_hub),
            "running_calls": rotation.running_calls(),
            "capacity": found.capacity,
            "bundle": inputs.bundle_version(),
        }
    if days:
        document["expires_in_days"] = min(days.values())
    return document | {"certificates": days}


def _why(reason: CordonReason | None, *, by_hub: bool) -> str:
    """Empty: it takes calls."""
    return " ".join([*([str(reason)] if reason is not None else []), *(["by-hub"] if by_hub else [])])
