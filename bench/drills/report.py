"""The incident report of a drill: one JSON document, and the same as Markdown.

Owns the keys of report.json and of `borough drill run --json`. All durations are milliseconds.
"""

import datetime as dt
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from bench.caller import Ending
from bench.drills.drill import RECORDINGS, DrillRun
from bench.drills.findings import Findings, lost_calls, unanswered_calls
from bench.drills.kinds import Promise
from bench.drills.measurement import Noticed
from bench.drills.probe import Probe
from bench.drills.rounds import Round
from bench.report import hardware, milliseconds

NO_SAMPLES = {"p50": None, "p95": None, "p99": None, "max": None, "count": 0}
METHOD = (
    "Calls are real ones, placed by a carrier outside the region; silence, responses and context are taken from what "
    "reached the caller's ear, judged by recognisers that the region does not use. rto_ms: the blow to the answer of "
    "the first new call that rang after it; steady_ms: to the answer of the first new call after which none failed. "
    "Turns are those that the records held before a round and no node holds after it. Percentiles are nearest-rank."
)


def document(run: DrillRun, findings: Findings) -> dict[str, Any]:
    """The report, without the comparison with the last one."""
    figures = _figures(run, findings)
    missed = missed_promises(run.promise, figures)
    return {
        "kind": run.plan.kind.value,
        "shape": run.plan.shape.value if run.plan.shape else None,
        "region": run.region,
        "what": run.plan.spec.what,
        "seed": run.plan.seed,
        "started_at": _time(run.started_at),
        "ended_at": _time(run.ended_at),
        "asked_for": run.plan.times,
        **figures,
        "ended_because": run.ended_because,
        "passed": not missed and not run.ended_because,
        "missed": missed,
        "promise": {name: getattr(run.promise, name) for name in Promise.__slots__},
        "rounds": [_round(one, findings.noticed.get(one.number, ())) for one in run.rounds],
        "timeline": timeline(run),
        "evidence": _evidence(run, findings),
        "hardware": hardware(),
        "method": METHOD,
    }


def _figures(run: DrillRun, findings: Findings) -> dict[str, Any]:
    probes = [probe for one in run.rounds for probe in one.probes]
    contexts = findings.contexts()
    lost = lost_calls(run)
    return {
        "times": len(run.rounds),
        "calls": len(run.calls),
        "calls_struck": sum(bool(one.call.blows_s) for one in run.calls),
        "calls_lost": len(lost),
        "calls_lost_not_struck": sum(not one.call.blows_s for one in lost),
        "calls_unanswered": len(unanswered_calls(run)),
        "silence_ms": _percentiles(findings.silences_s()),
        "extra_response_ms": _percentiles(findings.extra_responses_s()),
        "rto_ms": _percentiles([rto for one in run.rounds if (rto := rto_s(one.probes)) is not None]),
        "steady_ms": _percentiles([steady for one in run.rounds if (steady := steady_s(one.probes)) is not None]),
        "whole_ms": _percentiles([one.whole_after_s for one in run.rounds if one.whole_after_s is not None]),
        "turns_lost": sum(one.turns_lost for one in run.rounds),
        "context": {"kept": contexts[True], "lost": contexts[False]},
        "double_speech": len(findings.double_speech),
        "lines_said_again": sum(one.call.repeats for one in run.calls),
        "ring_backs": {"made": findings.ring_backs, "resumed": findings.ring_backs_resumed},
        "new_calls": _new_calls(probes),
    }


def _new_calls(probes: Sequence[Probe]) -> dict[str, Any]:
    failed = [probe for probe in probes if probe.answered_after_s is None]
    return {
        "placed": len(probes),
        "answered": len(probes) - len(failed),
        "failed_by_sip_code": _counted(probe.sip_code for probe in failed),
        "answered_after_ms": _percentiles([p.answered_after_s for p in probes if p.answered_after_s is not None]),
    }


def rto_s(probes: Sequence[Probe]) -> float | None:
    """The answer of the first new call after the blow; None when none was answered."""
    return min((probe.answered_s for probe in probes if probe.answered_s is not None), default=None)


def steady_s(probes: Sequence[Probe]) -> float | None:
    """The answer of the first new call after which none failed; None when the last one failed."""
    failed = max((probe.placed_s for probe in probes if probe.answered_s is None), default=-1.0)
    return min(
        (probe.answered_s for probe in probes if probe.answered_s is not None and probe.placed_s > failed),
        default=None,
    )


def missed_promises(promise: Promise, figures: Mapping[str, Any]) -> list[str]:
    """Every promise that was not kept, in words."""
    missed = _missed_percentiles(promise, figures)
    if promise.calls_lost is not None and figures["calls_lost"] > promise.calls_lost:
        missed.append(f"{figures['calls_lost']} calls lost, {promise.calls_lost} promised")
    if figures["calls_lost_not_struck"]:
        missed.append(f"{figures['calls_lost_not_struck']} calls lost that no blow fell into")
    if figures["turns_lost"] > promise.turns_lost:
        missed.append(f"{figures['turns_lost']} committed turns lost")
    if promise.resumed_share is not None:
        missed += _missed_ring_backs(figures["ring_backs"], promise.resumed_share)
    if promise.calls_lost == 0 and figures["context"]["lost"]:
        missed.append(f"{figures['context']['lost']} calls went on without the context")
    if figures["double_speech"]:
        missed.append(f"{figures['double_speech']} calls in which the agent spoke double")
    return missed


def _missed_percentiles(promise: Promise, figures: Mapping[str, Any]) -> list[str]:
    limits = {
        "silence_ms": promise.silence_ms,
        "extra_response_ms": promise.extra_response_ms,
        "rto_ms": promise.rto_ms,
        "steady_ms": promise.rto_ms,
    }
    missed = [
        f"{name} P95 {figures[name]['p95']}, {limit} promised"
        for name, limit in limits.items()
        if limit is not None and (figures[name]["p95"] is None or figures[name]["p95"] > limit)
    ]
    answered = figures["new_calls"]["answered_after_ms"]["p95"]
    if promise.rto_ms is not None and answered is not None and answered > promise.rto_ms:
        missed.append(f"new calls waited {answered} ms for their answer (P95), {promise.rto_ms} promised")
    without = figures["times"] - figures["rto_ms"]["count"]
    return [*missed, *([f"no new call was answered in {without} round(s)"] if without else [])]


def _missed_ring_backs(ring_backs: Mapping[str, Any], share: float) -> list[str]:
    made, resumed = ring_backs["made"], ring_backs["resumed"]
    if resumed is None or resumed >= share * made:
        return []
    return [f"{resumed} of {made} callers who rang back were resumed"]


def timeline(run: DrillRun) -> list[dict[str, str]]:
    """What happened when, in order of time."""
    events: list[tuple[dt.datetime, str]] = [(run.started_at, "calls begin")]
    events += run.log
    for one in run.rounds:
        name, at = f"round {one.number + 1}", one.struck.at
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
        "number": one.number + 1,
        "struck_at": _time(one.struck.at),
        "what": one.struck.what,
        "node": one.blow.node,
        "shape": one.blow.shape.value if one.blow.shape else None,
        "moment": {"phase": str(one.phase), "delay_ms": _ms(one.delay_s)},
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
        "new_calls": _new_calls(one.probes),
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
        "measured_late_ms": _percentiles(run.late_s),
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
        "unanswered_by_cause": _counted(one.trace.cause for one in unanswered_calls(run)),
    }


def _percentiles(seconds: Sequence[float]) -> dict[str, int | None]:
    found = milliseconds(seconds)
    return {**NO_SAMPLES, **(found or {})}


def _counted(values: Any) -> dict[str, int]:
    return {str(value): count for value, count in sorted(Counter(values).items())}


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
            "blows_ms": [_ms(blow_s - one.call.answered_s) for blow_s in one.call.blows_s],
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
