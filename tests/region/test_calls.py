"""The region answers at its virtual address."""

import re

from rich.console import Console

from bench.cli.call import place_one
from bench.target import Trunk
from provisioning.machines.region import RegionRehearsal
from tests.region.calling import asked, calls_going_on

QUIET = Console(quiet=True)
MOST_S_A_MACHINE = 600.0


def test_each_machine_took_less_than_ten_minutes(region: RegionRehearsal) -> None:
    """From bare to serving, all of them at once on this machine's cores."""
    print(f"\nsteps: {region.seconds}\nmachines: {region.machine_seconds}")  # noqa: T201 - the figures asked for
    assert sum(region.seconds.values()) < MOST_S_A_MACHINE * (1 + region.plan.nodes)
    assert all(sum(by_playbook.values()) < MOST_S_A_MACHINE for by_playbook in region.machine_seconds.values())


def test_a_caller_gets_an_answer(trunk: Trunk) -> None:
    """Over the trunk, the front door and a node, with knowledge that came from the hub."""
    call = place_one(trunk, asked("What time do you close on Friday?"), QUIET)
    assert not call.trace.problems
    said = " ".join(turn.agent_heard for turn in call.turns).lower()
    assert re.search(r"5[.: ]30|five thirty", said), said


def test_callers_at_once_are_all_answered(trunk: Trunk) -> None:
    """Each node takes its part of them."""
    with calls_going_on(trunk) as calls:
        calls.until_more(6, within_s=120)
    assert calls.lost == []
