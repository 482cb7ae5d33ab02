"""`borough setup|up|reload|down|service|doctor`: hub and regions on this machine."""

import json
import os
import signal
from dataclasses import asdict
from pathlib import Path

import click
from rich.console import Console
from rich.table import Table

from provisioning.local.background import start_in_background, stop_background
from provisioning.local.doctor import examine
from provisioning.local.layout import DEFAULT_STATE, EXAMPLE_TENANTS, StateLayout, read_region_file
from provisioning.local.machine import MachineOptions
from provisioning.local.node import DEFAULT_CAPACITY, DEFAULT_WORKERS, sip_is_possible
from provisioning.local.plan import DEFAULT_REGIONS
from provisioning.local.services import find_service, services, start_service, stop_service
from provisioning.local.setup import prepare_machine

name_argument = click.argument("name", metavar="NODE/SERVICE")
state_option = click.option(
    "--state", type=click.Path(path_type=Path), default=DEFAULT_STATE, show_default=True, help="state folder"
)
json_option = click.option("--json", "as_json", is_flag=True, help="print JSON")


@click.command()
@state_option
@json_option
def setup(state: Path, as_json: bool) -> None:
    """Fetch the models and build the Asterisk image; what is there already is only verified."""
    done = prepare_machine(StateLayout(state.resolve()), Console(stderr=True, quiet=as_json))
    click.echo(json.dumps(done) if as_json else "Ready. `borough up` starts a region, `borough call` rings it.")


@click.command()
@state_option
@click.option(
    "--tenants", type=click.Path(path_type=Path, exists=True), default=EXAMPLE_TENANTS, help="tenant documents"
)
@click.option("--regions", default=DEFAULT_REGIONS, show_default=True, help="regions and how many nodes each has")
@click.option("--hub/--no-hub", "with_hub", default=True, help="without: nodes that read the tenants from disk")
@click.option("--workers", type=click.IntRange(1, 64), default=DEFAULT_WORKERS, show_default=True)
@click.option("--capacity", type=click.IntRange(1, 1000), default=DEFAULT_CAPACITY, show_default=True)
@json_option
def up(  # noqa: PLR0913, PLR0917 - one parameter an option
    state: Path, tenants: Path, regions: str, with_hub: bool, workers: int, capacity: int, as_json: bool
) -> None:
    """Start a hub and regions on this machine and leave them running."""
    options = MachineOptions(
        layout=StateLayout(state.resolve()),
        regions=regions,
        tenants=tenants.resolve(),
        workers=workers,
        capacity=capacity,
        sip=sip_is_possible(),
        hub=with_hub,
    )
    with Console(stderr=True, quiet=as_json).status("Starting hub and regions"):
        region = start_in_background(options)
    if as_json:
        click.echo(json.dumps(region))
        return
    for node in region["nodes"]:
        click.echo(
            f"{node['name']}  SIP {node['sip'] or 'none: Asterisk cannot be installed here'}  page {node['web']}"
        )
    click.echo("Stop it with `borough down`.")


@click.command()
@state_option
def reload(state: Path) -> None:
    """Have all servers of this machine take over certificates that were rotated or revoked."""
    os.kill(int(read_region_file(StateLayout(state.resolve()))["supervisor_pid"]), signal.SIGHUP)


@click.command()
@state_option
@json_option
def down(state: Path, as_json: bool) -> None:
    """Stop the region of this machine."""
    stop_background(StateLayout(state.resolve()))
    click.echo(json.dumps({"stopped": True}) if as_json else "Stopped.")


@click.command()
@state_option
@json_option
def doctor(state: Path, as_json: bool) -> None:
    """Check that this machine can run a node; exit code 1 when something is missing."""
    findings = list(examine(StateLayout(state.resolve())))
    if as_json:
        click.echo(json.dumps([asdict(finding) for finding in findings]))
    else:
        table = Table("check", "", "seen", "to mend it")
        for finding in findings:
            mark = "[green]ok[/]" if finding.is_ok else "[red]missing[/]"
            table.add_row(finding.check, mark, finding.seen, "" if finding.is_ok else finding.fix)
        Console().print(table)
    if not all(finding.is_ok for finding in findings):
        raise click.exceptions.Exit(1)


@click.group(name="service")
def service_group() -> None:
    """Look at, stop and start single services of this machine."""


@service_group.command(name="list")
@state_option
@json_option
def list_command(state: Path, as_json: bool) -> None:
    """List the services and their process ids."""
    found = list(services(StateLayout(state.resolve())))
    if as_json:
        rows = [{"service": f"{one.place}/{one.name}", "pid": one.pid, "held": one.is_held} for one in found]
        click.echo(json.dumps(rows))
        return
    for one in found:
        click.echo(f"{one.place}/{one.name}  {one.pid or 'dead'}{'  held' if one.is_held else ''}")


@service_group.command(name="stop")
@name_argument
@state_option
def stop_command(name: str, state: Path) -> None:
    """End a service; it stays dead until `start`."""
    stop_service(find_service(StateLayout(state.resolve()), name))


@service_group.command(name="start")
@name_argument
@state_option
def start_command(name: str, state: Path) -> None:
    """Start a stopped service again."""
    start_service(find_service(StateLayout(state.resolve()), name))


@service_group.command(name="kill")
@name_argument
@state_option
def kill_command(name: str, state: Path) -> None:
    """End a service with SIGKILL; the supervisor starts it again."""
    service = find_service(StateLayout(state.resolve()), name)
    if service.pid is not None:
        os.kill(service.pid, signal.SIGKILL)
