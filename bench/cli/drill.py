"""`borough drill ...`: takes parts of a region away under calls, and keeps what came of it."""

import asyncio
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import click
import numpy as np
import structlog
from rich.console import Console
from rich.table import Table

from bench.cli.bench import JUDGE_MODELS
from bench.cli.options import counting, json_option, state_option
from bench.drills.abort import ask_to_abort
from bench.drills.calls import make_plans
from bench.drills.drill import DrillRun, Progress, run_drill
from bench.drills.findings import Ears, find
from bench.drills.history import keep, new_folder, reports
from bench.drills.kinds import SPECS, DrillKind
from bench.drills.local_region import local_region
from bench.drills.region import DrillRegion
from bench.drills.report import calls_document, document
from bench.drills.rounds import DrillPlan
from bench.judge import Judge, WhisperListener
from bench.run import TRUNK_HZ
from bench.target import Target
from provisioning.local.layout import EXAMPLE_TENANTS, StateLayout

# What `--json` prints first; the whole report is in the folder it names.
HEADLINES = ("kind", "times", "calls", "calls_lost", "silence_ms", "rto_ms", "turns_lost")
reports_option = click.option(
    "--reports", type=click.Path(path_type=Path), help="where reports are kept; default: drills in the state folder"
)


@click.group()
def drill() -> None:
    """Rehearse failures under real calls; every drill leaves a report."""
    structlog.configure(logger_factory=structlog.PrintLoggerFactory(sys.stderr))


@drill.command()
@click.argument("kind", type=click.Choice([kind.value for kind in DrillKind]))
@click.option("--region", "region_name", help="default: the first one that runs here")
@click.option("--times", type=click.IntRange(1, 10_000), default=1, show_default=True, help="rounds")
@click.option("--at-once", type=click.IntRange(1, 100), default=2, show_default=True, help="calls at the same time")
@click.option("--seed", default=1, show_default=True, help="decides voices, pauses and moments")
@click.option("--judge/--no-judge", "is_judged", default=True, help="recognise and judge what the agent said")
@reports_option
@state_option
@json_option
def run(  # noqa: PLR0913, PLR0917 - one parameter an option
    kind: str,
    region_name: str | None,
    times: int,
    at_once: int,
    seed: int,
    is_judged: bool,
    reports: Path | None,
    state: Path,
    as_json: bool,
) -> None:
    """Take something away, round by round, under calls; exit code 1 when a promise was not kept."""
    layout = StateLayout(state.resolve())
    region = local_region(layout, region_name)
    plan = DrillPlan(kind=DrillKind(kind), spec=SPECS[DrillKind(kind)], times=times, seed=seed, at_once=at_once)
    console = Console(stderr=True, quiet=as_json)
    report = run_and_keep(region, plan, _place(reports, layout), is_judged=is_judged, console=console)
    if as_json:
        click.echo(json.dumps({name: report[name] for name in HEADLINES} | report))
    else:
        click.echo((Path(report["folder"]) / "report.md").read_text(encoding="utf-8"))
    if not report["passed"]:
        raise click.exceptions.Exit(1)


@drill.command(name="list")
@reports_option
@state_option
@json_option
def list_drills(reports: Path | None, state: Path, as_json: bool) -> None:
    """Show the drills that were run, the newest first."""
    found = _reports(_place(reports, StateLayout(state.resolve())))
    if as_json:
        click.echo(json.dumps(found))
    else:
        _print_list(found)


@drill.command()
@reports_option
@state_option
@json_option
def abort(reports: Path | None, state: Path, as_json: bool) -> None:
    """Stop the drill that runs; what it took away is put back first."""
    directory = _place(reports, StateLayout(state.resolve()))
    ask_to_abort(directory)
    click.echo(json.dumps({"asked": True}) if as_json else "Asked: it puts everything back and ends.")


def run_and_keep(
    region: DrillRegion, plan: DrillPlan, directory: Path, *, is_judged: bool, console: Console
) -> dict[str, Any]:
    """Run a drill, listen to it, keep its report."""
    with counting(console, "Preparing the callers' lines") as progress:
        plans = make_plans(region, plan.seed, progress)
    folder = new_folder(directory, plan.kind)
    try:
        with counting(console, f"Rounds: {plan.kind}") as progress:
            done = asyncio.run(run_drill(region, plan, plans, folder, Progress(rounds=progress)))
    except BaseException:
        # Nothing was touched: there is nothing to report.
        if not any(folder.iterdir()):
            folder.rmdir()
        raise
    with counting(console, "Listening to the recordings") as progress:
        findings = find(done, _ears(region, done) if is_judged else None, progress)
    return keep(folder, document(done, findings), calls_document(done))


def _ears(region: DrillRegion, _: DrillRun) -> Ears:
    trunk = region.trunk
    listeners = [WhisperListener(trunk.state.models / name) for name in JUDGE_MODELS]
    tenants = trunk.tenants if isinstance(trunk, Target) else EXAMPLE_TENANTS
    nobody = np.zeros(0, dtype=np.int16)
    return Ears(judge=Judge(listeners, tenants, nobody, TRUNK_HZ), listener=listeners[0])


def _place(reports: Path | None, layout: StateLayout) -> Path:
    return reports.resolve() if reports is not None else layout.root / "drills"


def _reports(directory: Path) -> list[dict[str, Any]]:
    keys = ("kind", "shape", "region", "started_at", "passed", "folder", *HEADLINES[1:], "missed", "ended_because")
    return [{key: report.get(key) for key in keys} for report in reports(directory)]


def _print_list(found: Sequence[dict[str, Any]]) -> None:
    table = Table("started", "region", "kind", "rounds", "calls", "lost", "silence P95", "RTO P95", "turns lost", "")
    for one in found:
        table.add_row(
            one["started_at"][:19],
            one["region"],
            f"{one['kind']} {one['shape'] or ''}".strip(),
            *(str(one[key]) for key in ("times", "calls", "calls_lost")),
            *(_ms(one[key]["p95"]) for key in ("silence_ms", "rto_ms")),
            str(one["turns_lost"]),
            "[green]passed[/]" if one["passed"] else "[red]not passed[/]",
        )
    Console().print(table)


def _ms(value: int | None) -> str:
    return "-" if value is None else f"{value} ms"
