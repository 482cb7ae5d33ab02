"""Counts what processes use, from /proc: CPU seconds, memory, file descriptors, descendants included.

Only the node is asked about: the carrier and the judge share the machine with it but are no part of its cost.
"""

import os
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

PROC = Path("/proc")


@dataclass(frozen=True, slots=True, kw_only=True)
class Usage:
    """What one process holds now. `cpu_s` counts since its start, without its children."""

    cpu_s: float
    resident_bytes: int
    descriptors: int
    threads: int


def usage_of(pid: int) -> Usage | None:
    """None when the process is gone."""
    try:
        fields = _stat(pid)
        descriptors = len(list((PROC / str(pid) / "fd").iterdir()))
    except (FileNotFoundError, ProcessLookupError, PermissionError):
        return None
    ticks = os.sysconf("SC_CLK_TCK")
    # proc(5): utime 14, stime 15, num_threads 20, rss 24 (pages); counted from 1, comm removed.
    return Usage(
        cpu_s=(int(fields[11]) + int(fields[12])) / ticks,
        resident_bytes=int(fields[21]) * os.sysconf("SC_PAGE_SIZE"),
        descriptors=descriptors,
        threads=int(fields[17]),
    )


def family(pids: Iterable[int]) -> frozenset[int]:
    """The processes and all their living descendants."""
    parents: dict[int, list[int]] = {}
    for entry in PROC.iterdir():
        if entry.name.isdigit():
            try:
                parents.setdefault(int(_stat(int(entry.name))[1]), []).append(int(entry.name))
            except (FileNotFoundError, ProcessLookupError):
                continue
    found: set[int] = set()
    waiting = list(pids)
    while waiting:
        pid = waiting.pop()
        if pid not in found:
            found.add(pid)
            waiting += parents.get(pid, [])
    return frozenset(found)


class CpuMeter:
    """CPU seconds that a set of process families has used since the meter was made.

    `sample` it now and then: a process that starts and ends between two samples is not seen.
    """

    def __init__(self, pids: Iterable[int]) -> None:
        self._roots = tuple(pids)
        self._first: dict[int, float] = {}
        self._last: dict[int, float] = {}
        self.sample()
        # What ran before the meter is not ours; what appears later counts from its start.
        self._first = dict(self._last)

    def sample(self) -> float:
        """Look again; returns CPU seconds so far."""
        for pid in family(self._roots):
            usage = usage_of(pid)
            if usage is not None:
                self._last[pid] = max(usage.cpu_s, self._last.get(pid, 0.0))
        return sum(last - self._first.get(pid, 0.0) for pid, last in self._last.items())


def _stat(pid: int) -> list[str]:
    """The fields of /proc/PID/stat after the name, which may hold spaces and brackets."""
    return (PROC / str(pid) / "stat").read_text(encoding="utf-8", errors="replace").rpartition(")")[2].split()
