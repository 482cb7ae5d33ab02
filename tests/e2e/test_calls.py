"""Real SIP calls: the carrier's Asterisk, the node's Asterisk, real models, judged by what the caller heard."""

import asyncio
import os
import re
import signal
from dataclasses import replace
from pathlib import Path

import aiohttp
import pytest
from rich.console import Console

from bench.caller import Ending
from bench.cli.call import OneCall, place_one
from bench.cli.demo import DEMO
from bench.report import is_dropped
from bench.run import RunOptions, line_cache, make_plans, new_run_directory, run_calls
from bench.scenario import Line, Say, Scenario, load_scenarios
from bench.target import Target, read_target
from edge.call.slots import SlotLedger
from edge.records.database import DatabaseSettings
from edge.records.store import CallReader
from tests.e2e.calling import WITHIN_S, Calling, placed, slots_in_use, unseen, until

QUIET = Console(quiet=True)
BANK = "harbour-bank"


def lines_of(*texts: str) -> Scenario:
    return Scenario(tenant=BANK, id="test", tags=(), lines=tuple(Line(act=Say(text=text)) for text in texts))


def spoken_turns(region: Target) -> int:
    """Turns of the bank's newest call in which the caller said something."""
    reader = CallReader(region.records, BANK, DatabaseSettings())
    calls = reader.recent_calls(1)
    return sum(bool(turn.caller_text) for turn in reader.turns(calls[0].call_id)) if calls else 0


async def left_in_asterisk(region: Target) -> int:
    """Channels and bridges of the node's Asterisk."""
    ari = region.ari
    assert ari is not None
    headers = {"Authorization": aiohttp.encode_basic_auth(ari.user, ari.password)}
    async with aiohttp.ClientSession(headers=headers) as session:
        count = 0
        for kind in ("channels", "bridges"):
            async with session.get(f"{ari.url}/{kind}") as answer:
                count += len(await answer.json())
        return count


def test_a_whole_conversation_ends_with_a_human(region: Target) -> None:
    """A question, a follow-up, an interruption, a number in digits, an escalation; then nothing is left."""
    scenario, _ = load_scenarios(DEMO)
    call: OneCall = place_one(region, scenario, QUIET)
    said = " ".join(turn.agent_heard for turn in call.turns).lower()
    assert not call.trace.problems
    assert len(call.run.humans) == 1
    assert re.search(r"5[.: ]30|five thirty", said)
    assert call.first_audio_ms is not None
    assert call.first_audio_ms <= 300
    assert any(turn.barge_in_ms is not None and turn.barge_in_ms <= 300 for turn in call.turns)
    until(lambda: slots_in_use(region) == 0)
    until(lambda: asyncio.run(left_in_asterisk(region)) == 0)


def test_a_call_survives_kill_9_of_inference(region: Target) -> None:
    """What is asked while the service is away, or as soon as the supervisor has it back, is answered."""
    # The caller takes a filler for an answer and goes on: the last lines come when the service is back.
    talk = ("What time do you close on Friday?", "And what about Saturday?", *["Where exactly is your branch?"] * 3)
    calling = Calling(region, lines_of(*talk))
    before = len(CallReader(region.records, BANK, DatabaseSettings()).recent_calls(100))
    calling.start()
    until(lambda: len(CallReader(region.records, BANK, DatabaseSettings()).recent_calls(100)) > before)
    until(lambda: spoken_turns(region) == 1)
    pid = read_target(region.state).processes.inference
    assert pid is not None
    os.kill(pid, signal.SIGKILL)
    calling.join(WITHIN_S)
    (trace,) = calling.traces
    assert trace.is_script_done
    assert not is_dropped(trace)
    until(lambda: spoken_turns(region) >= 2)
    until(lambda: slots_in_use(region) == 0)


def test_kill_9_of_a_worker_ends_no_call(region: Target) -> None:
    """Its callers are taken over, the calls of the other worker go on, slots are free, new calls are answered."""
    talk = lines_of("What time do you close on Friday?", "And what about Saturday?", "Where exactly is your branch?")
    calling = Calling(region, talk, talk)
    calling.start()
    until(lambda: slots_in_use(region) == 2)
    until(lambda: spoken_turns(region) >= 1)
    os.kill(read_target(region.state).processes.calls[0], signal.SIGKILL)
    calling.join(WITHIN_S)
    assert [trace.ending for trace in calling.traces] == [Ending.CALLER, Ending.CALLER]
    until(lambda: slots_in_use(region) == 0)
    until(lambda: asyncio.run(left_in_asterisk(region)) == 0)
    (after,) = placed(region, lines_of("What time do you close on Friday?"))
    assert after.is_script_done


def test_a_full_node_refuses_before_answering(region: Target, tmp_path: Path) -> None:
    """With every slot taken the caller gets congestion, and no audio path was built."""
    ledger = SlotLedger(directory=region.slots, capacity=region.capacity)
    taken = [ledger.take() for _ in range(region.capacity)]
    (refused,) = placed(region, lines_of("Hello?"))
    for slot in taken:
        slot.release()
    assert refused.answered_after_s is None
    assert refused.cause == 34
    assert slots_in_use(region) == 0


def test_a_number_that_nobody_answers_is_unallocated(region: Target) -> None:
    """Q.850 cause 1, SIP 404."""
    options = RunOptions(calls=1, concurrency=1)
    (plan,) = make_plans(region, [lines_of("Hello?")], options, line_cache(region), unseen)
    wrong = replace(plan, destination=plan.destination.replace("15550100", "15559999"))
    run = asyncio.run(run_calls(region, [wrong], 1, new_run_directory(region), unseen))
    assert run.traces[0].cause == 1


@pytest.mark.parametrize("name", ["inference", "calls-1", "calls-2"])
def test_the_logs_of_all_these_calls_hold_no_number_of_a_caller(region: Target, name: str) -> None:
    """Callers of the bench have numbers that begin with +1555; none is in a log."""
    log = (region.log / f"{name}.log").read_text(encoding="utf-8")
    assert "1555" not in log
