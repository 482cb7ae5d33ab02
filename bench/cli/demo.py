"""`borough demo`: a region for the time of one conversation on the trunk and one over WebRTC; nothing stays running."""

import asyncio
import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import click
from rich.console import Console

from bench.caller import CallPlan
from bench.cli.bench import JUDGE_MODELS
from bench.cli.call import place_one
from bench.dialogue import as_json as dialogue_json
from bench.dialogue import dialogue, greeting_of, print_dialogue
from bench.judge import WhisperListener
from bench.run import line_cache, prepare_lines
from bench.scenario import Scenario, load_scenarios
from bench.target import Target, read_target
from bench.webrtc_caller import place_webrtc_call
from provisioning.local.background import start_in_background, stop_background
from provisioning.local.layout import DEFAULT_STATE, StateLayout
from provisioning.local.machine import MachineOptions
from provisioning.local.node import sip_is_possible
from provisioning.local.setup import prepare_machine

DEMO = Path(__file__).resolve().parents[1] / "demo.yaml"


@click.command()
@click.option("--state", type=click.Path(path_type=Path), default=DEFAULT_STATE, show_default=True)
@click.option("--sip/--no-sip", "with_sip", default=True, help="the call on the SIP trunk")
@click.option("--webrtc/--no-webrtc", "with_webrtc", default=True, help="the call over WebRTC")
@click.option("--json", "as_json", is_flag=True, help="print JSON")
def demo(state: Path, with_sip: bool, with_webrtc: bool, as_json: bool) -> None:
    """Talk to the example bank: a question, a follow-up, a number in digits, an interruption, a human."""
    layout = StateLayout(state.resolve())
    console = Console(stderr=as_json)
    prepare_machine(layout, Console(stderr=True, quiet=as_json))
    by_trunk, by_web = load_scenarios(DEMO)
    shown: dict[str, object] = {}
    if with_sip and not sip_is_possible():
        console.print("[yellow]Asterisk cannot be installed on this machine: WebRTC only.[/yellow]")
    with _region(layout, with_sip=with_sip and sip_is_possible(), console=console) as target:
        if target.sip is not None and with_sip:
            console.rule("A call on the SIP trunk")
            result = place_one(target, by_trunk, Console(stderr=True, quiet=as_json))
            shown["sip"] = result.as_json()
            result.show(console)
        if with_webrtc:
            console.rule("The same agent over WebRTC")
            shown["webrtc"] = _web_call(target, by_web, console)
    if as_json:
        click.echo(json.dumps(shown))


def _web_call(target: Target, scenario: Scenario, console: Console) -> dict[str, object]:
    plan = CallPlan(
        call_id="demo-web",
        seed=1,
        destination="",
        caller_number="",
        scenario=scenario,
        lines=prepare_lines(line_cache(target), scenario, 1),
    )
    heard = asyncio.run(place_webrtc_call(target.web_url, plan))
    ear = WhisperListener(target.state.models / JUDGE_MODELS[0])
    greeting = greeting_of(heard.recording, heard.exchange, ear)
    turns = dialogue(heard.recording, heard.exchange, ear, None)
    first_audio_ms = round(heard.exchange.first_audio_s * 1000) if heard.exchange.first_audio_s is not None else None
    print_dialogue(greeting, first_audio_ms, turns, console)
    for problem in heard.problems:
        console.print(f"[red]{problem}[/red]")
    return {"greeting": greeting, "first_audio_ms": first_audio_ms, "turns": dialogue_json(turns)}


@contextmanager
def _region(layout: StateLayout, *, with_sip: bool, console: Console) -> Iterator[Target]:
    """The running region, or one of our own for as long as the block lasts."""
    if layout.region_file.exists():
        yield read_target(layout)
        return
    with console.status("Starting a hub and a region"):
        start_in_background(MachineOptions(layout=layout, sip=with_sip))
    try:
        yield read_target(layout)
    finally:
        stop_background(layout)
