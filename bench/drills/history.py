"""Reports that were kept: one folder a drill, `<started>-<kind>`, with report.json and report.md."""

import datetime as dt
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from bench.drills.errors import DrillReportError
from bench.drills.kinds import PartitionShape
from bench.drills.markdown import markdown

REPORT, PAGE, CALLS = "report.json", "report.md", "calls.json"
# What is compared with the last drill: its place in the report.
COMPARED = {
    "calls_lost": ("calls_lost",),
    "turns_lost": ("turns_lost",),
    "silence_p95_ms": ("silence_ms", "p95"),
    "extra_response_p95_ms": ("extra_response_ms", "p95"),
    "rto_p95_ms": ("rto_ms", "p95"),
    "whole_p95_ms": ("whole_ms", "p95"),
    "double_speech": ("double_speech",),
    "context_lost": ("context", "lost"),
}


def new_folder(directory: Path, kind: str) -> Path:
    """A folder for a drill that begins now."""
    folder = directory / f"{dt.datetime.now(dt.UTC):%Y%m%dT%H%M%S}-{kind}"
    folder.mkdir(parents=True)
    return folder


def keep(folder: Path, report: Mapping[str, Any], calls: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Write a report beside its evidence, compared with the last one of its kind; returns it so."""
    last = last_of(folder.parent, report["region"], report["kind"], report["shape"], before=folder)
    whole = {**report, "folder": str(folder), "last": compare(report, last) if last else None}
    (folder / CALLS).write_text(json.dumps(calls, indent=2), encoding="utf-8")
    (folder / REPORT).write_text(json.dumps(whole, indent=2), encoding="utf-8")
    (folder / PAGE).write_text(markdown(whole), encoding="utf-8")
    return whole


def reports(directory: Path) -> list[dict[str, Any]]:
    """Every report, the newest first. Raises DrillReportError."""
    return [_read(path) for path in sorted(directory.glob(f"*/{REPORT}"), reverse=True)]


def last_of(
    directory: Path, region: str, kind: str, shape: str | PartitionShape | None, *, before: Path
) -> dict[str, Any] | None:
    """The newest earlier report of the same kind in the same region; None for the first one."""
    for path in sorted(directory.glob(f"*-{kind}/{REPORT}"), reverse=True):
        if path.parent.name >= before.name:
            continue
        report = _read(path)
        if (report["region"], report["kind"], report["shape"]) == (region, kind, shape):
            return report
    return None


def compare(report: Mapping[str, Any], last: Mapping[str, Any]) -> dict[str, Any]:
    """Each figure then and now."""
    figures = {name: {"then": _at(last, place), "now": _at(report, place)} for name, place in COMPARED.items()}
    return {"started_at": last["started_at"], "times": last["times"], "passed": last["passed"], "figures": figures}


def _at(report: Mapping[str, Any], place: tuple[str, ...]) -> Any:
    found: Any = report
    for key in place:
        found = found.get(key) if isinstance(found, Mapping) else None
    return found


def _read(path: Path) -> dict[str, Any]:
    try:
        report: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        # What everybody who reads reports relies on.
        for key in ("kind", "shape", "region", "started_at", "times", "passed"):
            report[key]
    except (OSError, ValueError, KeyError) as error:
        raise DrillReportError(f"{path}: {type(error).__name__}: {error}") from error
    return report
