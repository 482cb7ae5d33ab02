"""`borough drill ...`: takes parts of a region away under calls, and keeps what came of it."""

import asyncio
import datetime as dt
import json
import os
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
from bench.cli.drill_order import MOST_TIMES, DrillOrder, Duration, Kinds, reports_in
from bench.cli.options import counting, json_option, state_option
from bench.drills.abort import ask_to_abort
from bench.drills.calls import make_plans
from bench.drills.choice import DrillPlan
from bench.drills.drill import DrillRun, Progress, run_drill
from bench.drills.findings import Ears, find
from bench.drills.history import keep, new_folder, reports
from bench.drills.kinds import RANDOM, DrillKind, PartitionShape
from bench.drills.only_one import only_drill
from bench.drills.region import DrillRegion
from bench.drills.report import calls_document, document
from bench.drills.schedule import MONTHLY, UNITS, Schedule, is_possible, next_runs
from bench.judge import Judge, WhisperListener
from bench.run import TRUNK_HZ
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
@click.argument("kind", type=click.Choice([*(kind.value for kind in DrillKind), RANDOM]))
@click.option("--region", "region_name", help="default: the only one there is")
@click.option(
    "--inventory", type=click.Path(path_type=Path, exists=True), help="of real machines; default: `borough up`"
)
@click.option("--tenants", type=click.Path(path_type=Path, exists=True), default=EXAMPLE_TENANTS, help="whose numbers")
@click.option(
    "--shape",
    type=click.Choice([shape.value for shape in PartitionShape]),
    help="of partitions; default: alone, at random a drawn one",
)
@click.option(
    "--times", type=click.IntRange(1, MOST_TIMES), help="rounds; default: 1, with --for as many as there is time"
)
@click.option("--for", "for_s", type=Duration(), help="begin no round after this time (90s, 60m, 1h30m)")
@click.option("--only", type=Kinds(), default=frozenset(), help="of random: draw from these, as in worker,node")
@click.option("--at-once", type=click.IntRange(1, 100), default=2, show_default=True, help="calls at the same time")
@click.option("--seed", default=1, show_default=True, help="decides voices, pauses and moments")
@click.option("--judge/--no-judge", "is_judged", default=True, help="recognise and judge what the agent said")
@click.option("--schedule", is_flag=False, flag_value=MONTHLY, help="run it at these times instead; alone: monthly")
@reports_option
@state_option
@json_option
@click.pass_context
def run(context: click.Context, /, kind: str, schedule: str | None, as_json: bool, **options: Any) -> None:
    """Take something away, round by round, under calls; exit code 1 when a promise was not kept."""
    order = DrillOrder(kind=None if kind == RANDOM else DrillKind(kind), **options)
    plan = order.plan
    if schedule is not None:
        _schedule(order, schedule, as_json=as_json)
        return
    console = Console(stderr=True, quiet=as_json)
    with order.region() as region:
        report = run_and_keep(region, plan, order.directory, is_judged=order.is_judged, console=console)
    if as_json:
        click.echo(json.dumps({name: report[name] for name in HEADLINES} | report))
    else:
        click.echo((Path(report["folder"]) / "report.md").read_text(encoding="utf-8"))
    if not report["passed"]:
        context.exit(1)


@drill.command(name="list")
@reports_option
@state_option
@json_option
def list_drills(reports: Path | None, state: Path, as_json: bool) -> None:
    """Show the drills that were run, the newest first, and when those of a schedule come next."""
    found, timers = _reports(reports_in(reports, StateLayout(state.resolve()))), next_runs()
    if as_json:
        click.echo(json.dumps({"drills": found, "next": timers}))
        return
    _print_list(found)
    for timer in timers:
        at = dt.datetime.fromtimestamp((timer["next_us"] or 0) / 1e6, dt.UTC)
        click.echo(f"{timer['unit']}: {at:%Y-%m-%d %H:%M} UTC" if timer["next_us"] else f"{timer['unit']}: never")


@drill.command()
@reports_option
@state_option
@json_option
def abort(reports: Path | None, state: Path, as_json: bool) -> None:
    """Stop the drill that runs; what it took away is put back first."""
    directory = reports_in(reports, StateLayout(state.resolve()))
    ask_to_abort(directory)
    click.echo(json.dumps({"asked": True}) if as_json else "Asked: it puts everything back and ends.")


def run_and_keep(
    region: DrillRegion, plan: DrillPlan, directory: Path, *, is_judged: bool, console: Console
) -> dict[str, Any]:
    """Run a drill, listen to it, keep its report. Raises DrillRefusedError where another one runs."""
    with only_drill(directory, region.name):
        done = _run(region, plan, directory, console)
    # Before anybody listens, which takes minutes: who ends us meanwhile finds what was measured.
    report = _keep(done, None, console, "Measuring the recordings")
    return _keep(done, _ears(region), console, "Listening to the recordings") if is_judged else report


def _run(region: DrillRegion, plan: DrillPlan, directory: Path, console: Console) -> DrillRun:
    with counting(console, "Preparing the callers' lines") as progress:
        plans = make_plans(region, plan.seed, progress)
    folder = new_folder(directory, plan.name)
    try:
        with counting(console, f"Rounds: {plan.name}") as progress:
            return asyncio.run(run_drill(region, plan, plans, folder, Progress(rounds=progress)))
    except BaseException:
        # Nothing was touched: there is nothing to report.
        if not any(folder.iterdir()):
            folder.rmdir()
        raise


def _keep(done: DrillRun, ears: Ears | None, console: Console, what: str) -> dict[str, Any]:
    with counting(console, what) as progress:
        findings = find(done, ears, progress)
    return keep(done.folder, document(done, findings), calls_document(done))


def _schedule(order: DrillOrder, calendar: str, *, as_json: bool) -> None:
    """Install the units, or show them where systemd does not run this machine or we may not."""
    with order.region() as region:
        schedule = Schedule(
            kind=order.plan.name,
            region=region.name,
            command=order.command(),
            calendar=calendar,
            for_s=order.for_s or 0.0,
        )
    installs = is_possible() and os.geteuid() == 0
    if installs:
        schedule.install()
    if as_json:
        click.echo(json.dumps({"installed": installs, "units": dict(schedule.files())}))
        return
    for name, text in schedule.files().items():
        click.echo(f"# {UNITS / name}\n{text}")
    click.echo(f"{schedule.unit}.timer is on." if installs else "Nothing was installed: put these on the machine.")


def _ears(region: DrillRegion) -> Ears:
    listeners = [WhisperListener(region.trunk.state.models / name) for name in JUDGE_MODELS]
    nobody = np.zeros(0, dtype=np.int16)
    return Ears(judge=Judge(listeners, region.tenants, nobody, TRUNK_HZ), listener=listeners[0])


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
