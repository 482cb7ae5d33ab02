"""`borough bench sync|autonomy|durability|retrieval|sketches`: what hub, regions and records promise, measured."""

import asyncio
import json
import tempfile
from dataclasses import asdict
from pathlib import Path

import click
from rich.console import Console

from bench.autonomy import Cut, CutPlan, measure_autonomy
from bench.cli.options import counting, json_option, load_all, state_option
from bench.durability import PowerCuts
from bench.retrieval import measure_retrieval_alone
from bench.sketches import merged_errors
from bench.sync import measure_sync
from provisioning.local.layout import StateLayout


@click.command()
@click.option(
    "--items", type=click.IntRange(100, 1_000_000), default=80_000, show_default=True, help="of the catalogue"
)
@click.option("--rounds", type=click.IntRange(1, 10_000), default=100, show_default=True, help="changes of each kind")
@state_option
@json_option
def sync(items: int, rounds: int, state: Path, as_json: bool) -> None:
    """How fast policy and knowledge reach every node, how well and fast it is searched, what the links carry."""
    console = Console(stderr=True, quiet=as_json)
    with counting(console, "Changes") as progress:
        figures = asyncio.run(measure_sync(StateLayout(state.resolve()), items=items, rounds=rounds, progress=progress))
    click.echo(json.dumps(figures, indent=None if as_json else 2))


@click.command()
@click.option(
    "--minutes", type=click.FloatRange(0.5, 600), default=10.0, show_default=True, help="how long the cut lasts"
)
@click.option(
    "--cut", type=click.Choice([cut.value for cut in Cut]), default=Cut.HUB.value, help="hub dead, or its link silent"
)
@state_option
@json_option
def autonomy(minutes: float, cut: str, state: Path, as_json: bool) -> None:
    """Cut the hub off under calls, restart a node meanwhile; fail when a call or a count is lost."""
    console = Console(stderr=True, quiet=as_json)
    plan = CutPlan(cut=Cut(cut), minutes=minutes)
    with counting(console, "Calls") as progress:
        figures = asyncio.run(measure_autonomy(StateLayout(state.resolve()), load_all(()), plan, progress))
    click.echo(json.dumps(figures, indent=None if as_json else 2))
    if figures["calls_failed"] or not figures["is_exactly_once"]:
        raise SystemExit(1)


@click.command()
@click.option("--rounds", type=click.IntRange(1, 1000), default=50, show_default=True, help="power cuts")
@click.option("--seed", default=3, show_default=True, help="decides the moments")
@json_option
def durability(rounds: int, seed: int, as_json: bool) -> None:
    """Kill all processes of a node under load, again and again; fail when an acknowledged turn is lost."""
    with tempfile.TemporaryDirectory() as folder:
        report = asyncio.run(PowerCuts(directory=Path(folder), seed=seed).run(rounds))
    each = {"each": [asdict(cut) for cut in report.rounds]} if as_json else {}
    click.echo(json.dumps({**report.summary(), **each}, indent=None if as_json else 2))
    if not report.is_passed:
        raise SystemExit(1)


@click.command()
@click.option("--items", type=click.IntRange(100, 1_000_000), default=80_000, show_default=True)
@json_option
def retrieval(items: int, as_json: bool) -> None:
    """Snapshot, delta and search at the size of a catalogue, without a hub."""
    click.echo(json.dumps(asyncio.run(measure_retrieval_alone(items)), indent=None if as_json else 2))


@click.command()
@click.option("--values", type=click.IntRange(1_000), default=100_000, show_default=True, help="of each run")
@click.option("--seeds", type=click.IntRange(1), default=5, show_default=True)
@json_option
def sketches(values: int, seeds: int, as_json: bool) -> None:
    """Percentiles from merged sketches against the exact ones over all values."""
    figures = merged_errors(values=values, nodes=12, minutes=60, seeds=seeds)
    click.echo(json.dumps(figures, indent=None if as_json else 2))
