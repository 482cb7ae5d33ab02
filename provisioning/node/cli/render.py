"""`borough node render`."""

import asyncio
import difflib
import json
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path

import click

from provisioning.node.cli.options import json_option, root_option
from provisioning.node.description import HubDescription
from provisioning.node.enrolment.asking import ask_roster
from provisioning.node.errors import EnrolmentError, RosterError
from provisioning.node.folder import Change, RenderedFolder
from provisioning.node.inputs import Inputs
from provisioning.node.machine import Machine, group_id
from provisioning.node.reloading import Taken, close_links_of_gone, take_over

NOTHING = Taken(reloaded=(), restarted=(), left=())


@click.command()
@click.option("--check", is_flag=True, help="Only say what would change.")
@click.option("--reload", "reloads", is_flag=True, help="Have running services take over what changed.")
@click.option("--ask-hub", "asks", is_flag=True, help="Ask the hub first for a newer roster; go on without an answer.")
@click.option("--diff", "shows_diff", is_flag=True, help="Show the changes line by line.")
@root_option
@json_option
def render(check: bool, reloads: bool, asks: bool, shows_diff: bool, root: Path, as_json: bool) -> None:
    """Write the settings of every service from node.toml, the roster and the identity of this machine.

    The last line says how many files changed.
    """
    inputs = Inputs(Machine(root))
    if asks and not check:
        asyncio.run(_ask_hub(inputs))
    files = inputs.files(datetime.now(UTC))
    folder = RenderedFolder(Machine(root))
    changes = folder.changes(files)
    if not check:
        folder.write(files, group_id)
    taken = asyncio.run(_take_over(inputs, changes)) if reloads and not check and changes else NOTHING
    if as_json:
        click.echo(json.dumps(_document(changes, taken)))
        return
    _print(changes, taken, shows_diff=shows_diff)


async def _ask_hub(inputs: Inputs) -> None:
    description = inputs.description()
    if isinstance(description, HubDescription):
        return
    try:
        await ask_roster(description, inputs)
    except (EnrolmentError, RosterError) as error:
        # The node goes on with what it knows, as it does with bundles.
        click.echo(f"the roster is not the hub's newest: {error}", err=True)


async def _take_over(inputs: Inputs, changes: Sequence[Change]) -> Taken:
    description = inputs.description()
    taken = await take_over(changes, description.nats.monitor)
    if isinstance(description, HubDescription) and taken.reloaded:
        await close_links_of_gone(changes, description, inputs.identity())
    return taken


def _document(changes: Sequence[Change], taken: Taken) -> dict[str, list[str]]:
    return {
        "changed": [str(change.path) for change in changes],
        "units": sorted({change.unit for change in changes if change.unit}),
        "reloaded": list(taken.reloaded),
        "restarted": list(taken.restarted),
        "left": list(taken.left),
    }


def _print(changes: Sequence[Change], taken: Taken, *, shows_diff: bool) -> None:
    for change in changes:
        word = "new" if change.before is None else "gone" if change.after is None else "changed"
        click.echo(f"{word:8} {change.path}")
        if shows_diff:
            click.echo("".join(_diff(change)))
    for what, units in (("reloaded", taken.reloaded), ("restarted", taken.restarted), ("restart yourself", taken.left)):
        if units:
            click.echo(f"{what}: {' '.join(units)}")
    click.echo(f"changed: {len(changes)}")


def _diff(change: Change) -> list[str]:
    before, after = ((text or "").splitlines(keepends=True) for text in (change.before, change.after))
    return list(difflib.unified_diff(before, after, str(change.path), str(change.path)))
