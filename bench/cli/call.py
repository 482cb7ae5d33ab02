"""`borough call`: one real call, printed as a dialogue with its latencies."""

import asyncio
import json
from pathlib import Path

import click
from rich.console import Console

from bench.cli.bench import JUDGE_MODELS
from bench.cli.options import counting
from bench.dialogue import as_json as dialogue_json
from bench.dialogue import dialogue, greeting_of, print_dialogue
from bench.errors import CarrierError
from bench.exchange import hear
from bench.judge import WhisperListener
from bench.node_records import match, recorded_calls
from bench.recording import read_recording
from bench.rehearsal import rehearsal_trunk
from bench.run import RunOptions, line_cache, make_plans, new_run_directory, run_calls
from bench.scenario import Line, Say, Scenario
from bench.target import Target, Trunk, read_target
from provisioning.local.layout import DEFAULT_STATE, StateLayout
from provisioning.machines.cli import rehearsal_in


@click.command()
@click.option("--say", "texts", multiple=True, required=True, help="a line of the caller; repeatable")
@click.option("--to", "number", help="number to ring; default: the first one of the region")
@click.option("--state", type=click.Path(path_type=Path), default=DEFAULT_STATE, show_default=True)
@click.option("--machines", "on_machines", is_flag=True, help="ring the region of `borough machines`, at its address")
@click.option("--json", "as_json", is_flag=True, help="print JSON")
def call(texts: tuple[str, ...], number: str | None, state: Path, on_machines: bool, as_json: bool) -> None:
    """Ring an agent of the running region, say the lines, print what came of it."""
    layout = StateLayout(state.resolve())
    target = rehearsal_trunk(layout, rehearsal_in(state).plan()) if on_machines else read_target(layout)
    rung = number or next(iter(target.numbers), "")
    if rung not in target.numbers:
        raise CarrierError(f"no agent answers {rung}; there are: {', '.join(target.numbers)}")
    lines = tuple(Line(act=Say(text=text)) for text in texts)
    scenario = Scenario(tenant=target.numbers[rung], id="call", tags=(), lines=lines)
    result = place_one(target, scenario, Console(stderr=True, quiet=as_json))
    if as_json:
        click.echo(json.dumps(result.as_json()))
    else:
        result.show(Console())


class OneCall:
    """One SIP call, heard and joined with the node's record."""

    def __init__(self, target: Trunk, scenario: Scenario, console: Console) -> None:
        options = RunOptions(calls=1, concurrency=1)
        with counting(console, "Preparing the caller's lines") as progress:
            plans = make_plans(target, [scenario], options, line_cache(target), progress)
        with counting(console, "Calling") as progress:
            self.run = asyncio.run(run_calls(target, plans, 1, new_run_directory(target), progress))
        (self.trace,) = self.run.traces
        if self.trace.answered_after_s is None:
            raise CarrierError(f"no answer (cause {self.trace.cause}) {'; '.join(self.trace.problems)}")
        recording = read_recording(self.trace.spoken_file, self.trace.heard_file)
        self.exchange = hear(recording, self.trace.utterances)
        calls = recorded_calls(target.records, [scenario.tenant], limit=5) if isinstance(target, Target) else ()
        record = match([self.trace], calls)
        ear = WhisperListener(target.state.models / JUDGE_MODELS[0])
        self.greeting = greeting_of(recording, self.exchange, ear)
        self.turns = dialogue(recording, self.exchange, ear, record.get(self.trace.plan.call_id))

    @property
    def first_audio_ms(self) -> int | None:
        """Answer to the agent's first audio."""
        return round(self.exchange.first_audio_s * 1000) if self.exchange.first_audio_s is not None else None

    def as_json(self) -> dict[str, object]:
        """For `--json`."""
        return {
            "greeting": self.greeting,
            "first_audio_ms": self.first_audio_ms,
            "turns": dialogue_json(self.turns),
            "ended_by": self.trace.ending,
            "humans_reached": len(self.run.humans),
            "problems": list(self.trace.problems),
            "recording": str(self.trace.heard_file),
        }

    def show(self, console: Console) -> None:
        """For people."""
        print_dialogue(self.greeting, self.first_audio_ms, self.turns, console)
        for problem in self.trace.problems:
            console.print(f"[red]{problem}[/red]")
        if self.run.humans:
            console.print(f"[dim]a human at {self.run.humans[0].call.called_number} took over[/dim]")


def place_one(target: Trunk, scenario: Scenario, console: Console) -> OneCall:
    """Place one SIP call. Raises CarrierError when nobody answers."""
    return OneCall(target, scenario, console)
