"""The figures of a drill, and which promises they keep. Pure; owns the keys of the figures in report.json."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from bench.drills.drill import DrillRun
from bench.drills.findings import Findings, lost_calls, unanswered_calls
from bench.drills.kinds import SPECS, DrillKind, Promise
from bench.drills.probe import Probe
from bench.report import milliseconds

NO_SAMPLES = {"p50": None, "p95": None, "p99": None, "max": None, "count": 0}


def figures_of(run: DrillRun, findings: Findings) -> dict[str, Any]:
    """The figures of a drill, or of a share of it."""
    probes = [probe for one in run.rounds for probe in one.probes]
    contexts = findings.contexts()
    lost = lost_calls(run)
    return {
        "times": len(run.rounds),
        "calls": len(run.calls),
        "calls_struck": sum(bool(one.call.blows) for one in run.calls),
        "calls_lost": len(lost),
        "calls_lost_not_struck": sum(not one.call.blows for one in lost),
        "calls_unanswered": len(unanswered_calls(run)),
        "silence_ms": percentiles(findings.silences_s()),
        "extra_response_ms": percentiles(findings.extra_responses_s()),
        "rto_ms": percentiles([rto for one in run.rounds if (rto := rto_s(one.probes)) is not None]),
        "steady_ms": percentiles([steady for one in run.rounds if (steady := steady_s(one.probes)) is not None]),
        "whole_ms": percentiles([one.whole_after_s for one in run.rounds if one.whole_after_s is not None]),
        "turns_lost": sum(one.turns_lost for one in run.rounds),
        "context": {"kept": contexts[True], "lost": contexts[False]},
        "double_speech": len(findings.double_speech),
        "lines_said_again": sum(one.call.repeats for one in run.calls),
        "ring_backs": {"made": len(findings.ring_backs), "resumed": findings.resumed()},
        "new_calls": new_calls(probes),
    }


def new_calls(probes: Sequence[Probe]) -> dict[str, Any]:
    """What came of the calls that rang anew."""
    failed = [probe for probe in probes if probe.answered_after_s is None]
    return {
        "placed": len(probes),
        "answered": len(probes) - len(failed),
        "failed_by_sip_code": counted(probe.sip_code for probe in failed),
        "answered_after_ms": percentiles([p.answered_after_s for p in probes if p.answered_after_s is not None]),
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
    late = figures["times"] - figures["whole_ms"]["count"]
    if late:
        missed.append(f"the region was not whole in time after {late} round(s)")
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


def figures_by_kind(run: DrillRun, findings: Findings) -> dict[DrillKind, dict[str, Any]]:
    """The figures of each kind that was struck, with its promise and what of it was not kept.

    A call is counted under one kind: that of the blow that decided its fate (`EndedCall.decisive`).
    """
    found: dict[DrillKind, dict[str, Any]] = {}
    for kind in DrillKind:
        rounds = tuple(one for one in run.rounds if one.plan.kind is kind)
        if not rounds:
            continue
        numbers = {one.plan.number for one in rounds}
        calls = tuple(one for one in run.calls if one.decisive is not None and one.decisive.number in numbers)
        share = replace(run, rounds=rounds, calls=calls)
        figures = figures_of(share, findings.only(numbers, {one.call.plan.call_id for one in calls}))
        promise = SPECS[kind].promise
        found[kind] = {
            "promise": promise_document(promise),
            "missed": missed_promises(promise, figures),
            **figures,
        }
    return found


def promise_document(promise: Promise) -> dict[str, Any]:
    """A promise as it stands in a report."""
    return {name: getattr(promise, name) for name in Promise.__slots__}


def missed_at_random(
    run: DrillRun, figures: Mapping[str, Any], kinds: Mapping[DrillKind, Mapping[str, Any]]
) -> list[str]:
    """What was not kept in a drill of many kinds: of each kind, and by calls that belong to none."""
    missed = [f"{kind}: {what}" for kind, one in kinds.items() for what in one["missed"]]
    if figures["calls_lost_not_struck"]:
        missed.append(f"{figures['calls_lost_not_struck']} calls lost that no blow fell into")
    done = {one.plan.number for one in run.rounds}
    undone = [one for one in lost_calls(run) if one.decisive is not None and one.decisive.number not in done]
    return [*missed, *([f"{len(undone)} calls lost in a round that did not come to its end"] if undone else [])]


def percentiles(seconds: Sequence[float]) -> dict[str, int | None]:
    """In milliseconds; None where there is no sample."""
    found = milliseconds(seconds)
    return {**NO_SAMPLES, **(found or {})}


def counted(values: Any) -> dict[str, int]:
    """How often each value comes."""
    return {str(value): count for value, count in sorted(Counter(values).items())}
