"""A drill's report as a page for people: what happened, what it cost, what was promised. Pure."""

from collections.abc import Mapping, Sequence
from typing import Any

PERCENTILES = ("silence_ms", "extra_response_ms", "rto_ms", "steady_ms", "whole_ms")
KIND_PERCENTILES = ("silence_ms", "extra_response_ms", "rto_ms", "steady_ms")
MEANS = {
    "silence_ms": "silence at the ear around a blow",
    "extra_response_ms": "first answer after a blow, longer than usual by",
    "rto_ms": "blow to the first new call answered (RTO)",
    "steady_ms": "blow to the first new call after which none failed",
    "whole_ms": "blow to the region being whole again",
}


def markdown(report: Mapping[str, Any]) -> str:
    """The page."""
    parts = [
        _head(report),
        _verdict(report),
        _figures(report),
        _kinds(report["kinds"]),
        _last(report["last"]),
        _lost(report),
        _left_behind(report["leaks"]),
        _audit(report["audit"]),
        _rounds(report["rounds"]),
        _timeline(report["timeline"]),
        _method(report),
    ]
    return "\n\n".join(part for part in parts if part) + "\n"


def _head(report: Mapping[str, Any]) -> str:
    kind = f"{report['kind']} ({report['shape']})" if report["shape"] else report["kind"]
    return (
        f"# Drill: {kind} in {report['region']}\n\n"
        f"{report['what'][0].upper()}{report['what'][1:]}; {report['times']} rounds ({_asked(report['asked_for'])}) in"
        f" {report['length_ms'] / 60_000:.1f} min of calls, seed {report['seed']}, {report['started_at']} to"
        f" {report['ended_at']}.{_drawn(report)}"
    )


def _asked(asked_for: Mapping[str, Any]) -> str:
    if asked_for["for_ms"] is None:
        return f"{asked_for['times']} asked for"
    return f"{asked_for['for_ms'] / 60_000:.1f} min asked for"


def _drawn(report: Mapping[str, Any]) -> str:
    if not report["kinds"]:
        return ""
    left_out = "; ".join(f"{kind} ({reason})" for kind, reason in report["left_out"].items())
    return f"\n\nDrawn from: {', '.join(report['drawn_from'])}." + (f" Left out: {left_out}." if left_out else "")


def _verdict(report: Mapping[str, Any]) -> str:
    if report["passed"]:
        return "**Every promise was kept.**"
    reasons = [*report["missed"], *([f"ended early: {report['ended_because']}"] if report["ended_because"] else [])]
    return "**Not passed:**\n\n" + "\n".join(f"- {reason}" for reason in reasons)


def _figures(report: Mapping[str, Any]) -> str:
    promise = {**report["promise"], "steady_ms": report["promise"]["rto_ms"]}
    rows = [
        [MEANS[name], *(_text(report[name][key]) for key in ("p50", "p95", "max", "count")), _text(promise.get(name))]
        for name in PERCENTILES
    ]
    table = _table(["milliseconds", "P50", "P95", "max", "samples", "promised (P95)"], rows)
    new, ring = report["new_calls"], report["ring_backs"]
    codes = ", ".join(f"{code}: {count}" for code, count in new["failed_by_sip_code"].items()) or "none"
    counts = _table(
        ["count", "", "promised"],
        [
            ["calls placed", _text(report["calls"]), ""],
            ["calls that a blow fell into", _text(report["calls_struck"]), ""],
            ["calls lost", _text(report["calls_lost"]), _text(promise["calls_lost"])],
            ["calls lost that no blow fell into", _text(report["calls_lost_not_struck"]), "0"],
            ["calls that nobody took", _text(report["calls_unanswered"]), ""],
            ["committed turns lost (RPO)", _text(report["turns_lost"]), _text(promise["turns_lost"])],
            ["context kept / lost", f"{report['context']['kept']} / {report['context']['lost']}", ""],
            ["calls with double speech", _text(report["double_speech"]), "0"],
            ["lines that callers said again", _text(report["lines_said_again"]), ""],
            ["callers who rang back / were resumed", f"{ring['made']} / {_text(ring['resumed'])}", ""],
            ["new calls placed / answered", f"{new['placed']} / {new['answered']}", ""],
            ["their wait for the answer, P95 (ms)", _text(new["answered_after_ms"]["p95"]), _text(promise["rto_ms"])],
            ["new calls that failed, by SIP status", codes, ""],
        ],
    )
    return f"## Figures\n\n{table}\n\n{counts}"


def _kinds(kinds: Mapping[str, Mapping[str, Any]]) -> str:
    """One line for each kind of a random drill; P95 with what was promised behind it."""
    if not kinds:
        return ""
    head = ["kind", "rounds", "calls", "lost", *(f"{name} P95" for name in KIND_PERCENTILES), "turns lost"]
    head += ["context kept / lost", "double speech", "rang back / resumed", "new calls / answered", ""]
    return "## Kinds\n\n" + _table(head, [_kind(kind, one) for kind, one in kinds.items()])


def _kind(kind: str, one: Mapping[str, Any]) -> list[str]:
    promise, ring, new = one["promise"], one["ring_backs"], one["new_calls"]
    return [
        kind,
        *(_promised(one[name], promise.get(name)) for name in ("times", "calls", "calls_lost")),
        *(_promised(one[name]["p95"], promise.get(name)) for name in KIND_PERCENTILES),
        _promised(one["turns_lost"], promise["turns_lost"]),
        f"{one['context']['kept']} / {one['context']['lost']}",
        _text(one["double_speech"]),
        f"{ring['made']} / {_text(ring['resumed'])}",
        f"{new['placed']} / {new['answered']}",
        "not kept" if one["missed"] else "kept",
    ]


def _promised(value: object, promised: object) -> str:
    return _text(value) if promised is None else f"{_text(value)} ({promised})"


def _last(last: Mapping[str, Any] | None) -> str:
    if last is None:
        return "## Last drill\n\nThis is the first one of its kind here."
    rows = [[name, _text(value["then"]), _text(value["now"])] for name, value in last["figures"].items()]
    word = "passed" if last["passed"] else "not passed"
    return (
        f"## Last drill\n\n{last['started_at']}, {last['times']} rounds, {word}.\n\n{_table(['', 'then', 'now'], rows)}"
    )


def _lost(report: Mapping[str, Any]) -> str:
    rows = [
        [one["call"], one["node"], _joined(one["struck_in_rounds"]), f"{one['ending']} ({one['cause']})"]
        for one in report["evidence"]["lost"]
    ]
    return "## What was lost\n\n" + (
        _table(["call", "node", "rounds", "ended by (cause)"], rows) if rows else "No call."
    )


def _left_behind(leaks: Mapping[str, Any]) -> str:
    """What services hold before and after; memory in MiB. Those started anew are named, as are leaks."""
    if not leaks:
        return ""
    rows = [
        [
            node,
            name,
            "started anew" if one["was_restarted"] else "",
            *(_change(one[what]) for what in ("processes", "open_files")),
            _change([None if size is None else round(size / 1024**2) for size in one["resident_bytes"]]),
        ]
        for node, found in leaks["nodes"].items()
        for name, one in found["services"].items()
    ]
    counts = [
        [node, *(_change(found[what]) for what in ("slots", "channels", "bridges", "run_files", "sessions"))]
        for node, found in leaks["nodes"].items()
    ]
    found = "\n".join(f"- {what}" for what in leaks["found"]) or "Nothing that should not be there."
    return (
        f"## What is left behind\n\n{found}\n\n"
        + _table(["before > after", "slots", "channels", "bridges", "run files", "sessions"], counts)
        + "\n\n"
        + _table(["node", "service", "", "processes", "open files", "memory (MiB)"], rows)
    )


def _change(pair: Sequence[object]) -> str:
    return f"{_text(pair[0])} > {_text(pair[1])}"


def _audit(audit: Mapping[str, Any]) -> str:
    if not audit:
        return ""
    rows = [
        [one["place"], one["name"], one["verdict"], _text(one["entries"]), one["detail"]] for one in audit["chains"]
    ]
    return f"## Audit chains\n\n{audit['verified']} of {len(rows)} verify.\n\n" + _table(
        ["place", "chain", "verdict", "entries", ""], rows
    )


def _rounds(rounds: Sequence[Mapping[str, Any]]) -> str:
    cells = [
        [
            _text(one["number"]),
            one["kind"],
            one["what"],
            f"{one['moment']['phase']} + {one['moment']['delay_ms']} ms",
            _joined(each["silence_ms"] for each in one["calls"]),
            _text(one["rto_ms"]),
            _text(one["whole_after_ms"]),
            _text(one["turns_lost"]),
        ]
        for one in rounds
    ]
    return "## Rounds\n\n" + _table(
        ["", "kind", "what", "moment of the turn", "silence (ms)", "RTO (ms)", "whole (ms)", "turns lost"], cells
    )


def _timeline(events: Sequence[Mapping[str, str]]) -> str:
    return "## Timeline\n\n" + _table(["at (UTC)", "what"], [[one["at"], one["what"]] for one in events])


def _method(report: Mapping[str, Any]) -> str:
    evidence, late = report["evidence"], report["evidence"]["measured_late_ms"]
    machine = f"{report['hardware']['cores']} cores, {report['hardware']['cpu']}"
    return (
        f"## Method\n\n{report['method']}\n\nOn {machine}; the measuring process itself was late by"
        f" {_text(late['p95'])} ms (P95), at most {_text(late['max'])} ms. Answers that no blow touched took"
        f" {_text(evidence['usual_response_ms'])} ms (median). Recordings: `{evidence['recordings']}`."
    )


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join(f"| {' | '.join(cell.replace('|', '/') for cell in line)} |" for line in lines)


def _joined(values: Any) -> str:
    return ", ".join(_text(value) for value in values) or "-"


def _text(value: object) -> str:
    return "-" if value is None else str(value)
