"""Placing real calls from the tests of this folder."""

import asyncio
import threading
import time
from collections.abc import Callable

from bench.caller import CallTrace
from bench.run import RunOptions, line_cache, make_plans, new_run_directory, run_calls
from bench.scenario import Scenario
from bench.target import Target
from edge.call.slots import SlotLedger

WITHIN_S = 60.0


def until(condition: Callable[[], bool], *, within_s: float = WITHIN_S) -> None:
    deadline = time.monotonic() + within_s
    while not condition():
        assert time.monotonic() < deadline, "it did not happen in time"
        time.sleep(0.05)


def slots_in_use(region: Target) -> int:
    return SlotLedger(directory=region.slots, capacity=region.capacity).in_use()


def unseen(done: int, of: int) -> None:
    """Nobody watches the progress of a test."""


def placed(region: Target, *scenarios: Scenario) -> list[CallTrace]:
    """Calls at the same time, one a scenario."""
    options = RunOptions(calls=len(scenarios), concurrency=len(scenarios))
    plans = make_plans(region, scenarios, options, line_cache(region), unseen)
    run = run_calls(region, plans, len(scenarios), new_run_directory(region), unseen)
    return list(asyncio.run(run).traces)


class Calling(threading.Thread):
    """Places calls beside the test, which meanwhile breaks something."""

    def __init__(self, region: Target, *scenarios: Scenario) -> None:
        super().__init__(name="calling")
        self._region = region
        self._scenarios = scenarios
        self.traces: list[CallTrace] = []

    def run(self) -> None:
        self.traces = placed(self._region, *self._scenarios)
