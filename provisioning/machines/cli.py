"""`borough machines`: real systemd machines inside this one, to rehearse what is done to a region."""

import json
import os
from dataclasses import asdict
from pathlib import Path

import click
from rich.console import Console
from rich.table import Table

from provisioning.build_store.root import ensure_debian_root
from provisioning.local.layout import DEFAULT_STATE, StateLayout
from provisioning.machines import bridge
from provisioning.machines.plan import DEFAULT_NODES, DEFAULT_REGION, MOST_NODES, MachinesPlan
from provisioning.machines.region import RegionRehearsal
from provisioning.machines.rehearsal import Rehearsal

name_argument = click.argument("name", metavar="MACHINE")
state_option = click.option(
    "--state", type=click.Path(path_type=Path), default=DEFAULT_STATE, show_default=True, help="state folder"
)


def rehearsal_in(state: Path) -> Rehearsal:
    """The machines of a state folder."""
    return Rehearsal(state.resolve() / "machines")


@click.group()
def machines() -> None:
    """Machines inside this one: bare Debian 13, a private bridge, real systemd. Needs root."""


@machines.command()
@state_option
@click.option("--region", default=DEFAULT_REGION, show_default=True)
@click.option("--nodes", type=click.IntRange(1, MOST_NODES), default=DEFAULT_NODES, show_default=True)
@click.option("--spares", type=click.IntRange(0, MOST_NODES), default=0, show_default=True, help="machines beside them")
def up(state: Path, region: str, nodes: int, spares: int) -> None:
    """Boot a hub's machine and a region's, all bare; those that run stay as they are."""
    plan = MachinesPlan(region=region, nodes=nodes, spares=spares)
    with Console(stderr=True).status("Booting machines"):
        root = ensure_debian_root(state_directory=state.resolve() / "images")
        for machine in rehearsal_in(state).up(plan, root):
            click.echo(f"{machine.place.name}  {machine.place.address}")


@machines.command()
@state_option
@click.option("--region", default=DEFAULT_REGION, show_default=True)
@click.option("--nodes", type=click.IntRange(1, MOST_NODES), default=DEFAULT_NODES, show_default=True)
@click.option("--json", "as_json", is_flag=True, help="print JSON")
def region(state: Path, region: str, nodes: int, as_json: bool) -> None:
    """Build the store, boot bare machines and make a hub and a region of them with the playbooks."""
    rehearsal = RegionRehearsal(
        layout=StateLayout(state.resolve()), plan=MachinesPlan(region=region, nodes=nodes, spares=1)
    )
    console = Console(stderr=True, quiet=as_json)
    with console.status("Building the store"):
        manifest = rehearsal.build()
    with console.status("Booting machines"):
        rehearsal.boot()
        rehearsal.write_inventory(manifest.version)
    with console.status("Provisioning; machines/plays.log in the state folder grows"):
        outcomes = rehearsal.provision()
    seconds = {**rehearsal.seconds, "machines": {h: s for o in outcomes.values() for h, s in o.seconds.items()}}
    if as_json:
        click.echo(json.dumps(seconds))
        return
    for name, value in seconds.items():
        click.echo(f"{name}: {value}")
    click.echo(f"{region} answers at {rehearsal.plan.virtual_address}. Ring it with `borough call --machines`.")


@machines.command("list")
@state_option
@click.option("--json", "as_json", is_flag=True, help="print JSON")
def list_machines(state: Path, as_json: bool) -> None:
    """Show every machine and whether it runs."""
    rows = [{**asdict(machine.place), "pid": machine.pid} for machine in rehearsal_in(state).machines()]
    if as_json:
        click.echo(json.dumps(rows))
        return
    table = Table("machine", "address", "process")
    for row in rows:
        table.add_row(str(row["name"]), str(row["address"]), str(row["pid"] or "off"))
    Console().print(table)


@machines.command()
@state_option
@name_argument
def start(state: Path, name: str) -> None:
    """Boot a machine that is off."""
    rehearsal_in(state).machine(name).start()


@machines.command("power-off")
@state_option
@name_argument
def power_off(state: Path, name: str) -> None:
    """Shut a machine down in order."""
    rehearsal_in(state).machine(name).power_off()


@machines.command("cut-power")
@state_option
@name_argument
def cut_power(state: Path, name: str) -> None:
    """End everything on a machine at once; its disk stays as it is."""
    rehearsal_in(state).machine(name).cut_power()


@machines.command()
@state_option
@name_argument
def unplug(state: Path, name: str) -> None:
    """Take a machine's network cable out."""
    machine = rehearsal_in(state).machine(name)
    bridge.unplug(machine.place)


@machines.command("plug-in")
@state_option
@name_argument
def plug_in(state: Path, name: str) -> None:
    """Put a machine's network cable back."""
    machine = rehearsal_in(state).machine(name)
    bridge.plug_in(machine.plan, machine.place)


@machines.command(context_settings={"ignore_unknown_options": True})
@state_option
@name_argument
@click.argument("command", nargs=-1, type=click.UNPROCESSED)
def ssh(state: Path, name: str, command: tuple[str, ...]) -> None:
    """Run a command on a machine, or open a shell."""
    words = rehearsal_in(state).machine(name).ssh(*command)
    os.execvp(words[0], words)  # noqa: S606


@machines.command()
@state_option
def down(state: Path) -> None:
    """Destroy every machine and its disk, and the bridge."""
    rehearsal_in(state).down()
