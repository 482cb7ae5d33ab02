"""The region answers at its virtual address."""

import re

from rich.console import Console

from bench.cli.call import place_one
from bench.scenario import Line, Say, Scenario
from bench.target import Trunk
from provisioning.machines.region import RegionRehearsal

QUIET = Console(quiet=True)


def asked(*texts: str) -> Scenario:
    """A caller of the bank who says these lines."""
    return Scenario(tenant="harbour-bank", id="asked", tags=(), lines=tuple(Line(act=Say(text=t)) for t in texts))


def test_each_machine_took_less_than_ten_minutes(region: RegionRehearsal) -> None:
    """From bare to serving, all of them at once on this machine's cores."""
    print(region.seconds)  # noqa: T201 - the figure that is asked for
    assert sum(region.seconds.values()) < 4 * 600


def test_a_caller_gets_an_answer(trunk: Trunk) -> None:
    """Over the trunk, the front door and a node, with knowledge that came from the hub."""
    call = place_one(trunk, asked("What time do you close on Friday?"), QUIET)
    assert not call.trace.problems
    said = " ".join(turn.agent_heard for turn in call.turns).lower()
    assert re.search(r"5[.: ]30|five thirty", said)
