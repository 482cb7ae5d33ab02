"""`borough setup|up|down|doctor`: the region on this machine."""

import json
from dataclasses import asdict
from pathlib import Path

import click
from rich.console import Console
from rich.table import Table

from provisioning.local.background import start_in_background, stop_background
from provisioning.local.doctor import examine
from provisioning.local.layout import DEFAULT_STATE, EXAMPLE_TENANTS, StateLayout
from provisioning.local.region import DEFAULT_CAPACITY, DEFAULT_WORKERS, RegionOptions, sip_is_possible
from provisioning.local.setup import prepare_machine

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
@click.option("--workers", type=click.IntRange(1, 64), default=DEFAULT_WORKERS, show_default=True)
@click.option("--capacity", type=click.IntRange(1, 1000), default=DEFAULT_CAPACITY, show_default=True)
@json_option
def up(state: Path, tenants: Path, workers: int, capacity: int, as_json: bool) -> None:
    """Start a region on this machine and leave it running."""
    options = RegionOptions(
        layout=StateLayout(state.resolve()),
        tenants=tenants.resolve(),
        workers=workers,
        capacity=capacity,
        sip=sip_is_possible(),
    )
    with Console(stderr=True, quiet=as_json).status("Starting Asterisk, inference and the call workers"):
        region = start_in_background(options)
    if as_json:
        click.echo(json.dumps(region))
        return
    node = region["node"]
    click.echo(f"SIP trunk  {node['sip'] or 'none: Asterisk cannot be installed here'}")
    click.echo(f"Web page   {node['web']}")
    click.echo("Stop it with `borough down`.")


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
