"""What is done to a region that takes calls: new certificates, a new release, a broken one, a lost node, an end.

Calls go on throughout, one after another at several places, and are counted where the carrier stands.
"""

import asyncio
import shutil
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from bench.caller import CallPlan, CallTrace, Ending
from bench.run import RunOptions, line_cache, make_plans, new_run_directory, run_calls
from bench.scenario import Line, Say, Scenario
from bench.target import Trunk
from provisioning.local.layout import REPOSITORY
from provisioning.machines.plays import PlayOutcome
from provisioning.machines.region import RegionRehearsal

AT_ONCE = 3
PLANS = 60
SCENARIOS = (
    Scenario(
        tenant="harbour-bank",
        id="hours",
        tags=(),
        lines=(Line(act=Say(text="What time do you close on Friday?")), Line(act=Say(text="And on Saturday?"))),
    ),
    Scenario(
        tenant="harbour-bank",
        id="fees",
        tags=(),
        lines=(Line(act=Say(text="Is there a fee for a replacement card?")),),
    ),
)


@dataclass(slots=True)
class Calls:
    """Calls that go on until they are told to end."""

    trunk: Trunk
    traces: Sequence[CallTrace] = ()
    _is_over: threading.Event = field(default_factory=threading.Event)

    @property
    def lost(self) -> list[str]:
        """Calls that nobody answered, or that were ended while they ran."""
        return [
            f"{trace.plan.call_id}: {trace.ending} (cause {trace.cause}) {'; '.join(trace.problems)}"
            for trace in self.traces
            if trace.answered_after_s is None or trace.problems or trace.ending is Ending.NODE
        ]

    def run(self) -> None:
        options = RunOptions(calls=PLANS, concurrency=AT_ONCE, seed=11)
        plans = make_plans(self.trunk, SCENARIOS, options, line_cache(self.trunk), lambda *_: None)
        directory = new_run_directory(self.trunk)
        result = asyncio.run(run_calls(self.trunk, self._until_over(plans), AT_ONCE, directory, lambda *_: None))
        self.traces = result.traces

    def end(self) -> None:
        self._is_over.set()

    def _until_over(self, plans: Sequence[CallPlan]) -> Iterator[CallPlan]:
        number = 0
        while not self._is_over.is_set():
            number += 1
            plan = plans[number % len(plans)]
            yield CallPlan(
                call_id=f"bench-0011-{number:06}",
                seed=plan.seed,
                destination=plan.destination,
                caller_number=f"+{15_557_100_000 + number}",
                scenario=plan.scenario,
                lines=plan.lines,
                is_recorded=False,
            )


@contextmanager
def calls_going_on(trunk: Trunk) -> Iterator[Calls]:
    """Calls all through the block; none is under way after it."""
    calls = Calls(trunk)
    thread = threading.Thread(target=calls.run)
    thread.start()
    try:
        yield calls
    finally:
        calls.end()
        thread.join(timeout=300)


def releases(region: RegionRehearsal) -> set[str]:
    """What the nodes run."""
    return {
        machine.run("readlink", "/opt/borough/current").strip().rpartition("/")[2]
        for machine in region.rehearsal.machines()[1 : 1 + region.plan.nodes]
    }


@pytest.fixture(scope="module")
def first_release(region: RegionRehearsal) -> str:
    (release,) = releases(region)
    return release


def test_certificates_are_rotated_under_calls(region: RegionRehearsal, trunk: Trunk) -> None:
    """Every node gets new keys; nobody on the telephone notices."""
    node = region.rehearsal.machines()[1]
    before = node.run("sha256sum", "/etc/borough/identity/agent/current/certificate.pem")
    with calls_going_on(trunk) as calls:
        region.player.play("rotate-certs").expect_success()
    assert node.run("sha256sum", "/etc/borough/identity/agent/current/certificate.pem") != before
    assert len(calls.traces) >= AT_ONCE
    assert calls.lost == []


def test_an_upgrade_drops_no_call(region: RegionRehearsal, trunk: Trunk, first_release: str) -> None:
    """One node after the other takes the new release, and calls are answered all the time."""
    second = region.build(version="99.0.1").version
    assert second != first_release
    region.write_inventory(second)
    with calls_going_on(trunk) as calls:
        region.player.play("upgrade").expect_success()
    assert releases(region) == {second}
    print(f"{len(calls.traces)} calls during the upgrade")  # noqa: T201 - the figure that is asked for
    assert len(calls.traces) >= AT_ONCE
    assert calls.lost == []


def broken_checkout(directory: Path) -> Path:
    """This checkout, with an inference service that ends as soon as it starts."""
    shutil.copytree(REPOSITORY, directory, ignore=shutil.ignore_patterns(".state", ".venv", "__pycache__", ".*_cache"))
    (directory / "edge" / "inference" / "__main__.py").write_text("raise SystemExit(1)\n", encoding="utf-8")
    return directory


def test_a_broken_release_is_halted_at_the_first_node(region: RegionRehearsal, trunk: Trunk, tmp_path: Path) -> None:
    """Its self-test fails: the node goes back to what it ran, the others were never touched, no call is lost."""
    (good,) = releases(region)
    region.write_inventory(region.build(version="99.0.2", repository=broken_checkout(tmp_path / "broken")).version)
    with calls_going_on(trunk) as calls:
        outcome: PlayOutcome = region.player.play("upgrade")
    assert outcome.exit_code != 0
    assert "self-test" in outcome.output
    assert releases(region) == {good}
    assert sum(1 for changed in outcome.changed.values() if changed) == 1
    assert calls.lost == []
