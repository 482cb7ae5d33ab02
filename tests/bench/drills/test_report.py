"""A drill's report: its figures, its page, and the one before it."""

import datetime as dt
import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest

from bench.caller import CallPlan, CallTrace, Ending
from bench.drills.calls import EndedCall
from bench.drills.choice import DrillPlan
from bench.drills.drawing import RoundPlan
from bench.drills.drill import DrillRun
from bench.drills.errors import DrillReportError
from bench.drills.figures import rto_s, steady_s
from bench.drills.findings import Findings, RingBack, says_it_twice
from bench.drills.history import keep, new_folder, reports
from bench.drills.kinds import DrillKind
from bench.drills.live_call import FeltBlow, LiveCall, TurnPhase
from bench.drills.markdown import markdown
from bench.drills.measurement import Noticed
from bench.drills.probe import Probe, since_blow
from bench.drills.region import Blow, Struck
from bench.drills.report import calls_document, document
from bench.drills.rounds import Round
from bench.scenario import Scenario

BEGAN = dt.datetime(2026, 11, 23, 12, 0, tzinfo=dt.UTC)
SCENARIO = Scenario(tenant="bank", id="hours", tags=(), lines=())


def probe(placed_s: float, answered_after_s: float | None, sip_code: int = 0) -> Probe:
    return Probe(placed_s=placed_s, answered_after_s=answered_after_s, sip_code=sip_code)


def felt(number: int, kind: DrillKind, at_s: float) -> FeltBlow:
    return FeltBlow(number=number, kind=kind, at_s=at_s)


def call(name: str, *blows: FeltBlow, is_done: bool = True, lost_in: int | None = None) -> EndedCall:
    plan = CallPlan(call_id=name, seed=1, destination="", caller_number=name, scenario=SCENARIO, lines=())
    trace = CallTrace(
        plan=plan,
        ending=Ending.CALLER if is_done else Ending.NODE,
        cause=16,
        answered_after_s=0.1,
        answered_at=BEGAN,
        length_s=30.0,
        utterances=(),
        is_script_done=is_done,
        problems=(),
        spoken_file=Path("spoken.wav"),
        heard_file=Path("heard.wav"),
    )
    return EndedCall(call=LiveCall(plan=plan, rang_at=BEGAN, blows=list(blows), lost_in=lost_in), trace=trace)


STRUCK = felt(0, DrillKind.WORKER, 10.0)


def one_round(*probes: Probe, turns_lost: int = 0, number: int = 0, kind: DrillKind = DrillKind.WORKER) -> Round:
    return Round(
        plan=RoundPlan(number=number, kind=kind, shape=None, phase=TurnPhase.PAUSE, delay_s=0.2, pause_s=1.0),
        blow=Blow(kind=kind, node="a-1", call_id="1"),
        struck=Struck(at=BEGAN, what="worker 7 of a-1", call_ids=("1",)),
        blow_s=10.0,
        whole_after_s=4.0,
        holder_before=None,
        holder_after=None,
        call_ids=("one",),
        turns_before=5,
        turns_lost=turns_lost,
        probes=probes,
    )


def run(
    folder: Path, rounds: Sequence[Round], *calls: EndedCall, kind: DrillKind | None = DrillKind.WORKER
) -> DrillRun:
    return DrillRun(
        plan=DrillPlan(kind=kind, times=len(rounds), seed=3, at_once=1),
        region="a",
        kinds=frozenset(one.plan.kind for one in rounds),
        left_out={"hub": "it cannot be done here"} if kind is None else {},
        started_at=BEGAN,
        ended_at=BEGAN + dt.timedelta(minutes=1),
        ended_because="",
        rounds=tuple(rounds),
        calls=calls,
        folder=folder,
        length_s=60.0,
    )


def findings(silence_s: float | None = 0.5, *, is_kept: bool = True) -> Findings:
    noticed = Noticed(call_id="one", silence_s=silence_s, response_s=0.4, is_context_kept=is_kept)
    return Findings(
        noticed={0: (noticed,)},
        usual_response_s=0.3,
        double_speech=(),
        unheard=(),
    )


def test_new_calls_are_counted_from_the_blow() -> None:
    probes = since_blow(
        (probe(0.0, 0.1), probe(1.5, None, 503), probe(2.0, 0.2), probe(3.0, None), probe(4.0, 0.1)), 1.0
    )
    assert rto_s(probes) == pytest.approx(1.2)
    assert steady_s(probes) == pytest.approx(3.1)
    assert steady_s((probe(0.0, 0.1), probe(1.0, None))) is None


def test_a_drill_that_kept_its_promises_says_so(tmp_path: Path) -> None:
    folder = new_folder(tmp_path, DrillKind.WORKER)
    done = run(folder, [one_round(probe(0.1, 0.2))], call("one", STRUCK), call("two"))
    report = keep(folder, document(done, findings()), calls_document(done))
    assert report["passed"]
    assert report["last"] is None
    assert (report["calls"], report["calls_struck"], report["calls_lost"], report["turns_lost"]) == (2, 1, 0, 0)
    assert report["silence_ms"] == {"p50": 500, "p95": 500, "p99": 500, "max": 500, "count": 1}
    assert report["rto_ms"]["p95"] == 300
    assert report["extra_response_ms"]["p95"] == 100
    assert json.loads((folder / "report.json").read_text(encoding="utf-8")) == report
    page = (folder / "report.md").read_text(encoding="utf-8")
    assert "Every promise was kept" in page
    assert "| 1 | worker | worker 7 of a-1 | pause + 200 ms | 500 | 300 | 4000 | 0 |" in page


def test_every_promise_that_was_not_kept_is_named(tmp_path: Path) -> None:
    done = run(tmp_path, [one_round(probe(0.1, None, 503), turns_lost=2)], call("one", STRUCK, is_done=False))
    report = document(done, findings(2.5, is_kept=False))
    assert not report["passed"]
    assert [missed.split(",")[0] for missed in report["missed"]] == [
        "silence_ms P95 2500",
        "no new call was answered in 1 round(s)",
        "1 calls lost",
        "2 committed turns lost",
        "1 calls went on without the context",
    ]
    assert report["new_calls"]["failed_by_sip_code"] == {"503": 1}
    assert report["evidence"]["lost"][0]["struck_in_rounds"] == [1]


def at_random(folder: Path) -> tuple[DrillRun, Findings]:
    """A worker, then an Asterisk that costs a call, whose caller rings back; a worker's blow falls into its silence."""
    rounds = [
        one_round(probe(0.1, 0.2)),
        one_round(probe(0.2, 0.9), number=1, kind=DrillKind.ASTERISK),
        one_round(probe(0.1, 0.3), number=2),
    ]
    lost = call("lost", felt(1, DrillKind.ASTERISK, 15.0), felt(2, DrillKind.WORKER, 25.0), is_done=False)
    done = run(folder, rounds, call("one", STRUCK), lost, call("lost-again", lost_in=1), call("two"), kind=None)
    noticed: dict[int, tuple[Noticed, ...]] = {
        number: (Noticed(call_id="one", silence_s=0.5, response_s=0.4, is_context_kept=True),) for number in (0, 2)
    }
    return done, replace(findings(), noticed=noticed, ring_backs=(RingBack(lost_in=1, is_resumed=True),))


def test_at_random_each_round_is_held_against_the_promise_of_its_kind(tmp_path: Path) -> None:
    done, found = at_random(tmp_path)
    report = document(done, found)
    assert report["passed"], report["missed"]
    assert (report["kind"], report["times"], report["calls_lost"], report["length_ms"]) == ("random", 3, 1, 60_000)
    worker, asterisk = report["kinds"]["worker"], report["kinds"]["asterisk"]
    assert (worker["times"], worker["calls"], worker["calls_lost"]) == (2, 1, 0)
    assert (asterisk["times"], asterisk["calls"], asterisk["calls_lost"]) == (1, 1, 1)
    assert asterisk["ring_backs"] == {"made": 1, "resumed": 1}
    assert asterisk["rto_ms"]["p95"] == 1100
    assert set(report) >= set(worker) - {"promise", "missed"}


def test_at_random_a_kind_that_kept_no_promise_is_named(tmp_path: Path) -> None:
    done, found = at_random(tmp_path)
    lost = call("gone", felt(0, DrillKind.WORKER, 10.0), is_done=False)
    other = call("open", felt(7, DrillKind.NODE, 10.0), is_done=False)
    unknown = replace(found, ring_backs=(RingBack(lost_in=1, is_resumed=False),))
    report = document(replace(done, calls=(*done.calls, lost, other)), unknown)
    assert report["missed"] == [
        "worker: 1 calls lost, 0 promised",
        "asterisk: 0 of 1 callers who rang back were resumed",
        "1 calls lost in a round that did not come to its end",
    ]
    page = markdown({**report, "last": None})
    assert "| worker | 2 | 2 | 1 (0) | 500 (2000) |" in page
    assert "Left out: hub (it cannot be done here)" in page


def test_a_drill_is_compared_with_the_last_one_of_its_kind(tmp_path: Path) -> None:
    kept = []
    for name, silence_s in (("20261101T000000-worker", 0.5), ("20261201T000000-worker", 0.9)):
        folder = tmp_path / name
        folder.mkdir()
        kept.append(keep(folder, document(run(folder, [one_round(probe(0.1, 0.2))]), findings(silence_s)), []))
    assert kept[1]["last"]["figures"]["silence_p95_ms"] == {"then": 500, "now": 900}
    assert [report["folder"] for report in reports(tmp_path)] == [kept[1]["folder"], kept[0]["folder"]]


def test_a_report_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    folder = new_folder(tmp_path, DrillKind.HUB)
    (folder / "report.json").write_text("{}", encoding="utf-8")
    with pytest.raises(DrillReportError, match=folder.name):
        reports(tmp_path)


def test_double_speech_is_an_end_that_is_heard_twice_without_an_apology() -> None:
    answer = "on Fridays we are open from nine to five thirty."
    assert says_it_twice(f"{answer} {answer}")
    assert not says_it_twice(f"{answer} Sorry, we were cut off for a moment. {answer}")
    assert not says_it_twice(f"on Fridays we are open. {answer}")
