"""What the command line asks for, and the same again for a timer."""

from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from bench.cli.drill import drill
from bench.cli.drill_order import DrillOrder
from bench.drills.kinds import DrillKind, PartitionShape
from bench.drills.schedule import LONGEST_S, Schedule


def order(**given: object) -> DrillOrder:
    plain: dict[str, object] = {
        "kind": None,
        "region_name": None,
        "inventory": None,
        "tenants": Path("tenants"),
        "shape": None,
        "times": None,
        "for_s": None,
        "only": frozenset(),
        "at_once": 2,
        "seed": 1,
        "is_judged": True,
        "reports": Path("reports"),
        "state": Path("state"),
    }
    return DrillOrder(**{**plain, **given})  # type: ignore[arg-type]


def asked(*words: str, state: Path) -> Result:
    return CliRunner().invoke(drill, ["run", *words, "--state", str(state)])


def test_one_round_unless_there_is_a_number_or_a_time() -> None:
    assert order().plan.times == 1
    assert order(times=3).plan.times == 3
    assert order(for_s=60.0).plan.times > 1000


def test_a_partition_has_one_shape_and_at_random_each_draws_its_own() -> None:
    assert order(kind=DrillKind.PARTITION).plan.shape is PartitionShape.ALONE
    assert order().plan.shape is None
    assert order(shape="nats").plan.shape is PartitionShape.NATS


def test_a_timer_runs_the_same_drill() -> None:
    command = order(for_s=5400.0, only=frozenset({DrillKind.WORKER, DrillKind.INFERENCE})).command()
    assert command[1:4] == ["drill", "run", "random"]
    assert command[command.index("--for") + 1] == "5400s"
    assert command[command.index("--only") + 1] == "inference,worker"
    units = Schedule(kind="random", region="a", command=command, for_s=5400.0).files()
    assert f"TimeoutStartSec={LONGEST_S + 5400}\n" in units["borough-drill-a-random.service"]


@pytest.mark.parametrize(
    ("words", "complaint"),
    [
        (("random", "--only", "worker,x"), "'x' is not a valid DrillKind"),
        (("random", "--for", "8 hours"), "is no duration"),
        (("worker", "--only", "worker"), "--only goes with random"),
        (("worker", "--shape", "nats"), "--shape goes with"),
    ],
)
def test_what_makes_no_sense_is_said(words: tuple[str, ...], complaint: str, tmp_path: Path) -> None:
    found = asked(*words, state=tmp_path)
    assert found.exit_code == 2, found.output
    assert complaint in found.output
