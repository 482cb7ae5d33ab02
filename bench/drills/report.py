"""The incident report of a drill: one JSON document, and the same as Markdown.

Owns the keys of report.json and of `borough drill run --json`, `figures` those of the figures. All durations are
milliseconds.
"""

import datetime as dt
from collections.abc import Sequence
from typing import Any

from bench.caller import Ending
from bench.drills.drill import RECORDINGS, DrillRun
from bench.drills.figures import (
    counted,
    figures_by_kind,
    figures_of,
    missed_at_random,
    missed_promises,
    new_calls,
    percentiles,
    promise_document,
    rto_s,
    steady_s,
)
from bench.drills.findings import Findings, lost_calls, unanswered_calls
from bench.drills.measurement import Noticed
from bench.drills.rounds import Round
from bench.report import hardware

METHOD = (
    "Calls are real ones, placed by a carrier outside the region; silence, responses and context are taken from what "
    "reached the caller's ear, judged by recognisers that the region does not use. rto_ms: the blow to the answer of "
    "the first new call that rang after it; steady_ms: to the answer of the first new call after which none failed. "
    "Turns are those that the records held before a round and no node holds after it. Percentiles are nearest-rank."
)


def document(run: DrillRun, findings: Findings) -> dict[str, Any]:
    """The report, without the comparison with the last one."""
    figures = figures_of(run, findings)
    kinds = figures_by_kind(run, findings)
    is_random = run.plan.kind is None
    missed = missed_at_random(run, figures, kinds) if is_random else missed_promises(run.plan.promise, figures)
    missed += run.aftermath.missed
    return {
        "kind": run.plan.name,
        "shape": run.plan.shape.value if run.plan.shape else None,
        "region": run.region,
        "what": run.plan.what,
        "seed": run.plan.seed,
        "started_at": _time(run.started_at),
        "ended_at": _time(run.ended_at),
        "asked_for": {"times": run.plan.times, "for_ms": _ms(run.plan.for_s), "only": sorted(run.plan.only)},
        # From the first call to the end of the last round.
        "length_ms": _ms(run.length_s),
        **figures,
        "kinds": dict(kinds) if is_random else {},
        "drawn_from": sorted(run.kinds),
        "left_out": dict(run.left_out),
        "ended_because": run.ended_because,
        "passed": not missed and not run.ended_because,
        "missed": missed,
        "promise": promise_document(run.plan.promise),
        "leaks": dict(run.aftermath.leaks),
        "audit": dict(run.aftermath.audit),
        "rounds": [_round(one, findings.noticed.get(one.plan.number, ())) for one in run.rounds],
        "timeline": timeline(run),
        "evidence": _evidence(run, findings),
        "hardware": hardware(),
        "method": METHOD,
    }


def timeline(run: DrillRun) -> list[dict[str, str]]:
    """What happened when, in order of time."""
    events: list[tuple[dt.datetime, str]] = [(run.started_at, "calls begin")]
    events += run.log
    for one in run.rounds:
        name, at = f"round {one.plan.number + 1}", one.struck.at
        first = rto_s(one.probes)
        if first is not None:
            events.append((at + dt.timedelta(seconds=first), f"{name}: a new call is answered"))
        if one.whole_after_s is not None:
            events.append((at + dt.timedelta(seconds=one.whole_after_s), f"{name}: the region is whole"))
    for ended in [*lost_calls(run), *unanswered_calls(run)]:
        trace = ended.trace
        over = trace.answered_at + dt.timedelta(seconds=trace.length_s)
        what = "nobody took" if trace.ending is Ending.REFUSED else "lost"
        events.append(
            (over, f"{what} call {ended.call.plan.call_id} (cause {trace.cause}) {'; '.join(trace.problems)}")
        )
    events.append((run.ended_at, run.ended_because or "the last call is over"))
    return [{"at": _time(at), "what": what.strip()} for at, what in sorted(events)]


def _round(one: Round, noticed: Sequence[Noticed]) -> dict[str, Any]:
    return {
        "number": one.plan.number + 1,
        "kind": one.plan.kind.value,
        "struck_at": _time(one.struck.at),
        "what": one.struck.what,
        "node": one.blow.node,
        "shape": one.blow.shape.value if one.blow.shape else None,
        "moment": {"phase": str(one.plan.phase), "delay_ms": _ms(one.plan.delay_s)},
        "calls": [
            {
                "call": each.call_id,
                "silence_ms": _ms(each.silence_s),
                "response_ms": _ms(each.response_s),
                "is_context_kept": each.is_context_kept,
                "failures": list(each.failures),
            }
            for each in noticed
        ],
        "calls_struck": list(one.call_ids),
        "rto_ms": _ms(rto_s(one.probes)),
        "steady_ms": _ms(steady_s(one.probes)),
        "new_calls": new_calls(one.probes),
        "whole_after_ms": _ms(one.whole_after_s),
        "address": {"before": one.holder_before, "after": one.holder_after},
        "turns_before": one.turns_before,
        "turns_lost": one.turns_lost,
    }


def _evidence(run: DrillRun, findings: Findings) -> dict[str, Any]:
    return {
        "recordings": str(run.folder / RECORDINGS),
        "unheard_recordings": list(findings.unheard),
        "double_speech": list(findings.double_speech),
        "measured_late_ms": percentiles(run.late_s),
        "usual_response_ms": _ms(findings.usual_response_s),
        "lost": [
            {
                "call": one.call.plan.call_id,
                "node": one.call.node,
                "struck_in_rounds": [number + 1 for number in one.call.rounds],
                "ending": one.trace.ending.value,
                "cause": one.trace.cause,
                "problems": list(one.trace.problems),
            }
            for one in lost_calls(run)
        ],
        "unanswered_by_cause": counted(one.trace.cause for one in unanswered_calls(run)),
    }


def _ms(seconds: float | None) -> int | None:
    return None if seconds is None else round(seconds * 1000)


def _time(at: dt.datetime) -> str:
    return at.isoformat(timespec="milliseconds")


def calls_document(run: DrillRun) -> list[dict[str, Any]]:
    """What every caller did and noticed, in milliseconds since the answer: evidence beside the recordings."""
    return [
        {
            "call": one.trace.plan.call_id,
            "scenario": one.trace.plan.scenario.id,
            "node": one.call.node,
            "is_ring_back": one.call.is_ring_back,
            "answered_at": _time(one.trace.answered_at),
            "length_ms": _ms(one.trace.length_s),
            "blows_ms": [_ms(blow.at_s - one.call.answered_s) for blow in one.call.blows],
            "rounds": [number + 1 for number in one.call.rounds],
            "lines": [
                {"line": each.line, "start_ms": _ms(each.start_s), "end_ms": _ms(each.end_s)}
                for each in one.trace.utterances
            ],
            "ending": one.trace.ending.value,
            "cause": one.trace.cause,
            "problems": list(one.trace.problems),
        }
        for one in run.calls
    ]
