"""`borough bench ...`: the caller's side measures the running region."""

import asyncio
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import click
import structlog
from rich.console import Console
from rich.table import Table

from bench.capacity import P99_LIMIT_MS, Point, find_capacity
from bench.cli.hub import autonomy, durability, retrieval, sketches, sync
from bench.cli.options import counting, json_option, load_all, state_option
from bench.errors import ScenarioError
from bench.judge import Judge, WhisperListener
from bench.node_records import compare, match, recorded_calls
from bench.report import listen, print_report, report, total_errors
from bench.run import TRUNK_HZ, RunOptions, RunResult, line_cache, make_plans, new_run_directory, run_calls
from bench.scenario import Scenario
from bench.soak import soak
from bench.target import Target, read_target
from bench.torture import torture
from provisioning.local.layout import StateLayout

SPEECH = Path(__file__).resolve().parents[3] / "shared" / "speech"
TORTURE = SPEECH.parent / "sip" / "sip-torture-rfc4475"
JUDGE_MODELS = ("whisper-base", "whisper-tiny.en")

scenario_option = click.option(
    "--scenario",
    "files",
    multiple=True,
    type=click.Path(path_type=Path, exists=True, dir_okay=False),
    help="scenario file; repeatable; default: those of both example tenants",
)
seed_option = click.option("--seed", default=1, show_default=True, help="decides voices, pauses and the order")


@click.group()
def bench() -> None:
    """Measure the running region from the caller's side."""
    # What parts of the node that a bench runs itself have to say; the figures alone go to stdout.
    structlog.configure(logger_factory=structlog.PrintLoggerFactory(sys.stderr))


@bench.command()
@scenario_option
@click.option("--calls", type=click.IntRange(1, 100_000), default=10, show_default=True)
@click.option("--concurrency", type=click.IntRange(1, 1000), default=1, show_default=True)
@click.option("--tag", "tags", multiple=True, help="only scenarios with one of these tags")
@click.option("--only", "ids", multiple=True, help="only scenarios with these ids")
@click.option("--judge/--no-judge", "is_judged", default=True, help="recognise and judge what the agent said")
@seed_option
@state_option
@json_option
def calls(  # noqa: PLR0913, PLR0917 - one parameter an option
    files: tuple[Path, ...],
    calls: int,
    concurrency: int,
    tags: tuple[str, ...],
    ids: tuple[str, ...],
    is_judged: bool,
    seed: int,
    state: Path,
    as_json: bool,
) -> None:
    """Place calls and report from their recordings."""
    target = read_target(StateLayout(state.resolve()))
    scenarios = [
        scenario
        for scenario in load_all(files)
        if (not tags or set(tags) & set(scenario.tags)) and (not ids or scenario.id in ids)
    ]
    if not scenarios:
        raise ScenarioError("no scenario is left to call with")
    options = RunOptions(calls=calls, concurrency=concurrency, seed=seed)
    console = Console(stderr=True, quiet=as_json)
    figures = measure(target, scenarios, options, is_judged=is_judged, console=console)
    if as_json:
        click.echo(json.dumps(figures))
    else:
        print_report(figures, Console())


@bench.command()
@scenario_option
@click.option("--min-concurrency", type=click.IntRange(1, 1000), default=1, show_default=True)
@click.option("--max-concurrency", type=click.IntRange(1, 1000), default=64, show_default=True)
@click.option("--calls-each", type=click.IntRange(1, 10_000), help="calls per step; default: 3 per place, at least 12")
@seed_option
@state_option
@json_option
def capacity(  # noqa: PLR0913, PLR0917 - one parameter an option
    files: tuple[Path, ...],
    min_concurrency: int,
    max_concurrency: int,
    calls_each: int | None,
    seed: int,
    state: Path,
    as_json: bool,
) -> None:
    """Find the highest concurrency at which P99 stays within 1000 ms and no call is dropped."""
    target = read_target(StateLayout(state.resolve()))
    scenarios = load_all(files)
    console = Console(stderr=True, quiet=as_json)

    def at(concurrency: int) -> Point:
        options = RunOptions(calls=calls_each or max(12, 3 * concurrency), concurrency=concurrency, seed=seed)
        figures = measure(target, scenarios, options, is_judged=False, console=console)
        times = figures["response_ms"] or {}
        return Point(
            concurrency=concurrency,
            calls=figures["calls"],
            dropped=figures["dropped"] + figures["calls"] - figures["answered"],
            unanswered_turns=figures["unanswered_turns"],
            p50_ms=times.get("p50"),
            p95_ms=times.get("p95"),
            p99_ms=times.get("p99"),
        )

    best, points = find_capacity(at, at_most=max_concurrency, at_least=min_concurrency)
    rows = [{name: getattr(point, name) for name in Point.__slots__} | {"good": point.is_good} for point in points]
    if as_json:
        click.echo(json.dumps({"capacity": best, "p99_limit_ms": P99_LIMIT_MS, "curve": rows}))
    else:
        _print_curve(best, rows)


@bench.command()
@click.option("--speech", type=click.Path(path_type=Path), default=SPEECH, show_default=True, help="folder of corpora")
@click.option("--model", default="whisper-tiny.en", show_default=True)
@click.option("--threads", type=click.IntRange(1, 64), default=1, show_default=True)
@click.option("--limit", type=click.IntRange(1), help="at most this many files of each corpus")
@state_option
@json_option
def recognition(speech: Path, model: str, threads: int, limit: int | None, state: Path, as_json: bool) -> None:
    """Word error rate and speed on telephone speech, against faster-whisper with the same weights."""
    # Loads both engines: the other commands start without them.
    from bench.recognition import compare_engines, speech_files, speechless_files, summarise_recognition  # noqa: PLC0415

    console = Console(stderr=True, quiet=as_json)
    if not (speech / "manifest.json").is_file():
        skipped = f"there is no speech in {speech}: recognition is not measured"
        click.echo(json.dumps({"skipped": skipped}) if as_json else skipped)
        return
    files = [*speech_files(speech, limit), *speechless_files(speech)]
    with counting(console, "Recognising with both engines") as progress:
        outcomes = compare_engines(files, StateLayout(state.resolve()).models, model, threads, progress)
    figures = summarise_recognition(outcomes, model, threads)
    click.echo(json.dumps(figures) if as_json else json.dumps(figures, indent=2))


@bench.command(name="soak")
@click.option("--calls", type=click.IntRange(5, 100_000), default=500, show_default=True)
@click.option("--concurrency", type=click.IntRange(1, 1000), default=4, show_default=True)
@state_option
@json_option
def soak_command(calls: int, concurrency: int, state: Path, as_json: bool) -> None:
    """Place many short calls in a row; fail when the node's memory, descriptors, channels or bridges grow."""
    target = read_target(StateLayout(state.resolve()))
    with counting(Console(stderr=True, quiet=as_json), "Short calls") as progress:
        figures = asyncio.run(soak(target, calls, concurrency, progress))
    _print_verdict(figures, as_json=as_json)


@bench.command(name="torture")
@click.option("--messages", type=click.Path(path_type=Path), default=TORTURE, show_default=True, help="RFC 4475 files")
@state_option
@json_option
def torture_command(messages: Path, state: Path, as_json: bool) -> None:
    """Send odd SIP to the trunk; fail when anything dies or a channel, bridge or slot is left."""
    target = read_target(StateLayout(state.resolve()))
    with counting(Console(stderr=True, quiet=as_json), "Odd SIP") as progress:
        figures = asyncio.run(torture(target, messages, progress))
    _print_verdict(figures, as_json=as_json)


def _print_verdict(figures: dict[str, Any], *, as_json: bool) -> None:
    click.echo(json.dumps(figures) if as_json else json.dumps(figures, indent=2))
    if not figures["passed"]:
        raise SystemExit(1)


def measure(
    target: Target, scenarios: Sequence[Scenario], options: RunOptions, *, is_judged: bool, console: Console
) -> dict[str, Any]:
    """Run calls and return the report's figures."""
    with counting(console, "Preparing the callers' lines") as progress:
        plans = make_plans(target, scenarios, options, line_cache(target), progress)
    directory = new_run_directory(target)
    with counting(console, f"Calls, {options.concurrency} at a time") as progress:
        run = asyncio.run(run_calls(target, plans, options.concurrency, directory, progress))
    judge = make_judge(target, run) if is_judged else None
    with counting(console, "Listening to the recordings") as progress:
        heard = listen(run, judge, progress)
    tenants = sorted({scenario.tenant for scenario in scenarios})
    records = match(run.traces, recorded_calls(target.records, tenants, limit=options.calls * 2))
    errors = [compare(trace, records[trace.plan.call_id]) for trace in run.traces if trace.plan.call_id in records]
    figures = report(run, heard, total_errors(errors)) | {"calls_with_records": len(errors), "folder": str(directory)}
    (directory / "report.json").write_text(json.dumps(figures, indent=2), encoding="utf-8")
    return figures


def make_judge(target: Target, run: RunResult) -> Judge:
    """The judge of a run, with recognisers that the node does not run."""
    ears = [WhisperListener(target.state.models / name) for name in JUDGE_MODELS]
    return Judge(ears, target.tenants, run.greeting, TRUNK_HZ)


def _print_curve(best: int, rows: Sequence[dict[str, Any]]) -> None:
    table = Table(title=f"Highest good concurrency: {best} (P99 <= {P99_LIMIT_MS} ms, none dropped)")
    for name in rows[0]:
        table.add_column(name, justify="right")
    for row in rows:
        table.add_row(*(str(value) for value in row.values()))
    Console().print(table)


for command in (sync, autonomy, durability, retrieval, sketches):
    bench.add_command(command)
