"""Rounds one after the other: what is drawn next is decided by the seed, whatever came of the rounds before."""

import asyncio
import time
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import cast

import pytest

from bench.carrier import Carrier
from bench.drills import rounds
from bench.drills.abort import AbortSwitch
from bench.drills.calls import DrillCalls
from bench.drills.drawing import RoundPlan, draw_rounds
from bench.drills.errors import DrillHandError, DrillUndoError
from bench.drills.kinds import DrillKind
from bench.drills.local_region import LocalRegion
from bench.drills.probe import SipCodes
from bench.drills.region import Blow, Struck
from bench.drills.rounds import MOST_MISSES, Round, Rounds
from provisioning.local.layout import StateLayout
from tests.bench.drills.test_report import BEGAN

SEED, KINDS = 5, frozenset({DrillKind.WORKER, DrillKind.NODE, DrillKind.PARTITION})


@dataclass(slots=True)
class Tried(Rounds):
    """Notes the rounds that are tried; `fails` says which of them do, by their place."""

    fails: frozenset[int] = frozenset()
    tried: list[RoundPlan] = field(default_factory=list)

    async def _round(self, plan: RoundPlan) -> None:
        self.tried.append(plan)
        if len(self.tried) in self.fails:
            raise DrillHandError("no answer")
        # However long it takes.
        await asyncio.sleep(0.01 * (len(self.tried) % 2))
        self.done.append(
            Round(
                plan=plan,
                blow=Blow(kind=plan.kind, node="a-1"),
                struck=Struck(at=BEGAN, what="a-1"),
                blow_s=0.0,
                whole_after_s=None,
                holder_before=None,
                holder_after=None,
                call_ids=(),
                turns_before=0,
                turns_lost=0,
                probes=(),
            )
        )


@pytest.fixture(autouse=True)
def no_pause(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rounds, "LOOK_EVERY_S", 0.0)
    monkeypatch.setattr(rounds, "UNDO_AGAIN_AFTER_S", 0.0)


def made(folder: Path, *fails: int, times: int = 12, for_s: float = 60.0, region: LocalRegion | None = None) -> Tried:
    region = region or LocalRegion(layout=StateLayout(folder), targets=())
    # Nobody calls in these rounds.
    carrier = cast("Carrier", None)
    calls = DrillCalls(
        region=region, carrier=carrier, seed=SEED, at_once=1, report=lambda _: None, recordings=folder / "recordings"
    )
    return Tried(
        plans=draw_rounds(SEED, KINDS),
        times=times,
        for_s=for_s,
        region=region,
        calls=calls,
        carrier=carrier,
        sip_codes=SipCodes(carrier),
        abort=AbortSwitch(folder),
        progress=lambda _, __: None,
        fails=frozenset(fails),
    )


async def test_a_round_that_fails_is_tried_again_as_it_was(tmp_path: Path) -> None:
    flaky = made(tmp_path, 1, 4, 5, 9)
    await flaky.run()
    expected = list(islice(draw_rounds(SEED, KINDS), 12))
    assert [one.plan for one in flaky.done] == expected
    assert len(flaky.tried) == len(expected) + 4
    assert list(dict.fromkeys(flaky.tried)) == expected


async def test_machines_that_never_answer_end_the_drill(tmp_path: Path) -> None:
    silent = made(tmp_path, *range(1, 50))
    with pytest.raises(ExceptionGroup, match="unhandled"):
        await silent.run()
    assert len(silent.tried) == MOST_MISSES


async def test_no_round_is_begun_when_the_time_is_over(tmp_path: Path) -> None:
    timed = made(tmp_path, times=10_000, for_s=0.1)
    began = time.monotonic()
    await timed.run()
    assert 0 < len(timed.done) < 10_000
    assert time.monotonic() - began < 10.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Silent(LocalRegion):
    """Answers nothing for a while when something is to be put back."""

    left: list[str]

    async def undo(self, blow: Blow) -> None:
        if self.left:
            raise DrillHandError(self.left.pop())


async def test_what_was_taken_away_is_put_back_as_soon_as_the_machine_answers(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    region = Silent(layout=StateLayout(tmp_path), targets=(), left=["no answer", "no answer"])
    plan = next(plan for plan in draw_rounds(SEED, KINDS) if plan.spec.held_s)
    one = made(tmp_path, region=region)
    await one._undo(plan, Blow(kind=plan.kind, node="a-1"))
    assert region.left == []
    assert one.log[0][1] == f"round {plan.number + 1}: put back"
    monkeypatch.setattr(rounds, "UNDONE_WITHIN_S", 0.01)
    region.left.extend(["no answer"] * 100_000)
    with pytest.raises(DrillUndoError, match="no answer"):
        await one._undo(plan, Blow(kind=plan.kind, node="a-1"))
