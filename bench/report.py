"""Turns a run into figures: listens to its recordings, judges them, counts.

Owns the keys that `borough bench calls --json` prints. All times in the report are milliseconds.
"""

import platform
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from bench.caller import CallTrace, Ending
from bench.errors import RecordingError
from bench.exchange import Exchange, Turn, UtteranceKind, hear
from bench.judge import CallVerdict, Judge
from bench.recording import Recording, read_recording
from bench.run import RunResult
from bench.scenario import ExpectedAction, Press, Say
from bench.statistics import Summary, WordErrors, summarise, total

# Recording and caller's clock may differ by the hang-up's way through the carrier.
CLOCKS_AGREE_WITHIN_S = 0.5
METHOD = (
    "response_ms: end of the caller's speech to the start of the agent's, in the carrier's recording (mu-law, 10 ms "
    "frames, ends refined to 2.5 ms); first_audio_ms: answer to first speech; barge_in_ms: start of the caller's "
    "speech to 200 ms of silence; percentiles are nearest-rank. Carrier and callers run on the node's cores and are "
    "not in cpu_seconds_per_call_minute."
)


@dataclass(frozen=True, slots=True, kw_only=True)
class HeardCall:
    """One call with what was measured in its recording; None where there is none."""

    trace: CallTrace
    recording: Recording | None
    exchange: Exchange | None
    verdict: CallVerdict | None = None
    is_aligned: bool = True


def listen(run: RunResult, judge: Judge | None, progress: Callable[[int, int], None]) -> tuple[HeardCall, ...]:
    """Measure and, with a judge, judge every call of a run."""
    heard = []
    for index, trace in enumerate(run.traces):
        heard.append(_listen(trace, judge))
        progress(index + 1, len(run.traces))
    return tuple(heard)


def _listen(trace: CallTrace, judge: Judge | None) -> HeardCall:
    if trace.answered_after_s is None:
        return HeardCall(trace=trace, recording=None, exchange=None)
    try:
        recording = read_recording(trace.spoken_file, trace.heard_file)
    except RecordingError:
        return HeardCall(trace=trace, recording=None, exchange=None, is_aligned=False)
    exchange = hear(recording, trace.utterances)
    return HeardCall(
        trace=trace,
        recording=recording,
        exchange=exchange,
        verdict=judge.judge(trace, recording, exchange) if judge else None,
        is_aligned=abs(recording.length_s - trace.length_s) <= CLOCKS_AGREE_WITHIN_S,
    )


def is_dropped(trace: CallTrace) -> bool:
    """An answered call that ended otherwise than by its caller, and not because the scenario says so."""
    if trace.answered_after_s is None:
        return False
    if trace.ending is Ending.CALLER:
        return False
    expected = trace.plan.scenario.lines[-1].expect.action if trace.plan.scenario.lines else None
    may_end = expected in {ExpectedAction.END, ExpectedAction.ESCALATE}
    return not (trace.ending is Ending.NODE and trace.is_script_done and may_end)


def report(run: RunResult, calls: Sequence[HeardCall], recognised: WordErrors | None) -> dict[str, Any]:
    """The report's keys and values, ready for JSON."""
    judged = [call.verdict for call in calls if call.verdict is not None]
    minutes = sum(call.trace.length_s for call in calls) / 60
    figures: dict[str, Any] = {
        "calls": len(calls),
        "answered": sum(call.trace.answered_after_s is not None for call in calls),
        "dropped": sum(is_dropped(call.trace) for call in calls),
        "turns": sum(len(_spoken_turns(call)) for call in calls),
        "response_ms": milliseconds(response_times(calls)),
        "first_audio_ms": milliseconds(
            [call.exchange.first_audio_s for call in calls if call.exchange and call.exchange.first_audio_s is not None]
        ),
        "barge_in_ms": milliseconds(barge_in_times(calls)),
        "task_success": _share(sum(verdict.is_success for verdict in judged), len(judged)),
        "word_error_rate": round(recognised.rate, 4) if recognised and recognised.rate is not None else None,
        "cpu_seconds_per_call_minute": round(run.node_cpu_s / minutes, 2) if minutes else None,
    }
    return figures | {
        "concurrency": run.concurrency,
        "wrong_facts": sum(len(line.wrong_facts) for verdict in judged for line in verdict.lines),
        "unconfirmed_facts": sum(len(line.unconfirmed) for verdict in judged for line in verdict.lines),
        "cut_off_turns": sum(turn.is_cut_off for turn in _all_turns(calls)),
        "unanswered_turns": _unanswered(calls),
        "likely_fillers": sum(turn.is_filler_likely for turn in _all_turns(calls)),
        "resumed_over_caller": sum(turn.is_resumed_over_caller for turn in _all_turns(calls)),
        "settled_ms": milliseconds(
            [turn.settled_s for call in calls for turn in _spoken_turns(call) if turn.settled_s is not None]
        ),
        "noises": _noises(calls),
        "barge_ins_not_stopped": sum(
            turn.utterance.kind is UtteranceKind.BARGE_IN and turn.barge_in_s is None
            for call in calls
            for turn in _spoken_turns(call)
        ),
        "misaligned_recordings": sum(not call.is_aligned for call in calls),
        "humans_reached": len(run.humans),
        "tenants": _by_tenant(calls),
        "failed": [_failure(call) for call in calls if _has_failed(call)],
        "call_minutes": round(minutes, 2),
        "wall_s": round(run.wall_s, 1),
        "hardware": hardware(),
        "method": METHOD,
    }


def response_times(calls: Sequence[HeardCall]) -> list[float]:
    """Response times in seconds of every turn that has one."""
    return [turn.response_s for call in calls for turn in _spoken_turns(call) if turn.response_s is not None]


def barge_in_times(calls: Sequence[HeardCall]) -> list[float]:
    """Barge-in times in seconds."""
    return [turn.barge_in_s for call in calls for turn in _spoken_turns(call) if turn.barge_in_s is not None]


def milliseconds(seconds: Sequence[float]) -> dict[str, int] | None:
    """Percentiles for the report; None without samples."""
    summary: Summary | None = summarise(seconds)
    if summary is None:
        return None
    values = {"p50": summary.p50, "p95": summary.p95, "p99": summary.p99, "max": summary.max}
    return {name: round(value * 1000) for name, value in values.items()} | {"count": summary.count}


def hardware() -> dict[str, object]:
    """What the figures were measured on."""
    cores, model = 0, platform.machine()
    for row in Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines():
        key, _, value = row.partition(":")
        cores += key.strip() == "processor"
        model = value.strip() if key.strip() == "model name" else model
    return {"cpu": model, "cores": cores, "gpu": None}


def print_report(figures: Mapping[str, Any], console: Console) -> None:
    """The report for people."""
    table = Table(title=f"{figures['calls']} calls, {figures['concurrency']} at a time")
    table.add_column("figure")
    for name in ("p50", "p95", "p99", "max", "count"):
        table.add_column(name, justify="right")
    for key in ("response_ms", "first_audio_ms", "barge_in_ms", "settled_ms"):
        values = figures[key] or {}
        table.add_row(key, *(str(values.get(name, "-")) for name in ("p50", "p95", "p99", "max", "count")))
    console.print(table)
    for key in (
        *("answered", "dropped", "turns", "task_success", "wrong_facts", "unconfirmed_facts", "word_error_rate"),
        *(
            "cpu_seconds_per_call_minute",
            "cut_off_turns",
            "unanswered_turns",
            "likely_fillers",
            "resumed_over_caller",
            "noises",
        ),
        *("barge_ins_not_stopped", "misaligned_recordings", "humans_reached", "tenants", "hardware"),
    ):
        console.print(f"{key:32} {figures[key]}")
    for failure in figures["failed"]:
        console.print(f"[red]{failure['tenant']}/{failure['scenario']}[/red] {'; '.join(failure['reasons'])}")


def _spoken_turns(call: HeardCall) -> list[Turn]:
    if call.exchange is None:
        return []
    spoken = {UtteranceKind.LINE, UtteranceKind.BARGE_IN}
    return [turn for turn in call.exchange.turns if turn.utterance.kind in spoken]


def _all_turns(calls: Sequence[HeardCall]) -> list[Turn]:
    return [turn for call in calls for turn in _spoken_turns(call)]


def _unanswered(calls: Sequence[HeardCall]) -> int:
    return sum(turn.response_s is None and not turn.is_cut_off for call in calls for turn in _spoken_turns(call))


def _noises(calls: Sequence[HeardCall]) -> dict[str, int]:
    kept = [
        turn.is_reply_kept
        for call in calls
        if call.exchange
        for turn in call.exchange.turns
        if turn.utterance.kind is UtteranceKind.NOISE
    ]
    return {"made": len(kept), "reply_kept": kept.count(True), "reply_lost": kept.count(False)}


def _share(part: int, whole: int) -> float | None:
    return round(part / whole, 4) if whole else None


def _by_tenant(calls: Sequence[HeardCall]) -> dict[str, Any]:
    tenants = sorted({call.trace.plan.scenario.tenant for call in calls})
    return {
        tenant: _tenant([call for call in calls if call.trace.plan.scenario.tenant == tenant]) for tenant in tenants
    }


def _tenant(calls: Sequence[HeardCall]) -> dict[str, Any]:
    judged = [call.verdict for call in calls if call.verdict is not None]
    return {
        "calls": len(calls),
        "response_ms": milliseconds(response_times(calls)),
        "task_success": _share(sum(verdict.is_success for verdict in judged), len(judged)),
        "wrong_facts": sum(len(line.wrong_facts) for verdict in judged for line in verdict.lines),
    }


def _has_failed(call: HeardCall) -> bool:
    return (
        call.trace.answered_after_s is None
        or is_dropped(call.trace)
        or (call.verdict is not None and not call.verdict.is_success)
    )


def _failure(call: HeardCall) -> dict[str, Any]:
    verdict = call.verdict
    reasons = [*call.trace.problems, *(verdict.failures if verdict else ())]
    if is_dropped(call.trace):
        reasons.append(f"dropped: ended by {call.trace.ending}, cause {call.trace.cause}")
    for line in verdict.lines if verdict else ():
        reasons += [f"line {line.line}: {failure}" for failure in line.failures]
        reasons += [f"line {line.line}: wrong fact {fact}" for fact in line.wrong_facts]
    return {
        "call": call.trace.plan.call_id,
        "tenant": call.trace.plan.scenario.tenant,
        "scenario": call.trace.plan.scenario.id,
        "ending": call.trace.ending,
        "cause": call.trace.cause,
        "reasons": reasons,
        "heard": [list(line.heard) for line in verdict.lines] if verdict else [],
        "recording": str(call.trace.heard_file),
    }


def said_by_caller(trace: CallTrace) -> str:
    """Every word and digit of the caller, as the node should have recognised them."""
    said = []
    for utterance in trace.utterances:
        act = trace.plan.scenario.lines[utterance.line].act
        if utterance.kind is UtteranceKind.NOISE:
            continue
        match act:
            case Say(text=text):
                said.append(text)
            case Press(digits=digits):
                said.append(digits)
            case _:
                pass
    return " ".join(said)


def total_errors(parts: Sequence[WordErrors]) -> WordErrors | None:
    """None when no call could be compared."""
    return total(parts) if parts else None
