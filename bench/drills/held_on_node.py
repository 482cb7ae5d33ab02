"""Runs on a node as `on_node` does: what its services hold that calls, or failures, may have left behind.

Imports nothing of ours: it is sent to machines as it stands (`python - held SETTINGS < held_on_node.py`) and answers
one line of JSON. Services are systemd's units, by the cgroups of their processes; beside a folder `control` those whose
process ids stand in it.
"""

import base64
import json
import os
import re
import sys
import tomllib
import urllib.request
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

ANSWER_WITHIN_S = 5.0
# A service reads its secrets where systemd shows them to it alone; root reads them here.
CREDENTIALS, SECRETS = Path("/run/credentials"), Path("/etc/borough/secrets")
UNIT = re.compile(r"/(borough-[^/]+)\.service")
MONITOR = re.compile(r'"?\bhttp"?\s*[:=]\s*"?(127\.0\.0\.1:\d+)')
SESSIONS = "KV_sessions"


def held(settings: Path) -> dict[str, Any]:
    """Counts of everything. None: nobody answers there."""
    worker = tomllib.loads(min(settings.glob("calls-*.toml")).read_text(encoding="utf-8"))
    slots = Path(worker["slots"]["directory"])
    return {
        "slots": _held_slots(slots),
        "channels": _count(worker.get("asterisk"), "channels"),
        "bridges": _count(worker.get("asterisk"), "bridges"),
        # Sockets, the cordon and the like; slots have a folder of their own.
        "run_files": sum(not path.is_dir() for path in slots.parent.iterdir()),
        "sessions": _sessions(settings / "nats.conf"),
        "services": {name: _service(pids) for name, pids in _services(settings / "control") if pids},
    }


def _held_slots(slots: Path) -> int:
    """By proc_locks(5)."""
    lines = (line.split() for line in Path("/proc/locks").read_text(encoding="utf-8").splitlines())
    locked = {int(fields[5].split(":")[2]) for fields in lines if fields[1] == "FLOCK"}
    return sum(path.stat().st_ino in locked for path in slots.glob("[0-9]*"))


def _count(asterisk: dict[str, Any] | None, what: str) -> int | None:
    """How many channels or bridges Asterisk has."""
    if asterisk is None:
        return None
    given = Path(asterisk["password_file"])
    secret = SECRETS / given.name if given.is_relative_to(CREDENTIALS) else given
    try:
        words = f"{asterisk['user']}:{secret.read_text(encoding='utf-8').strip()}"
        request = urllib.request.Request(f"{asterisk['url']}/ari/{what}")  # noqa: S310 - loopback
        request.add_header("Authorization", f"Basic {base64.b64encode(words.encode()).decode()}")
        return len(json.loads(_fetch(request)))
    except (OSError, ValueError):
        return None


def _sessions(configuration: Path) -> int | None:
    """Entries of the region's bucket of sessions, as this node's NATS server has them."""
    try:
        found = MONITOR.search(configuration.read_text(encoding="utf-8"))
        if found is None:
            return None
        document = json.loads(_fetch(urllib.request.Request(f"http://{found[1]}/jsz?accounts=true&streams=true")))
    except (OSError, ValueError):
        return None
    streams = (stream for account in document.get("account_details", []) for stream in account.get("stream_detail", []))
    return next((int(stream["state"]["messages"]) for stream in streams if stream["name"] == SESSIONS), None)


def _fetch(request: urllib.request.Request) -> str:
    with urllib.request.urlopen(request, timeout=ANSWER_WITHIN_S) as answer:  # noqa: S310 - loopback
        return str(answer.read().decode())


def _services(control: Path) -> Iterator[tuple[str, list[int]]]:
    """Each service and its processes, the first one before its descendants."""
    processes = sorted(_processes().items(), key=lambda item: item[1][1])
    if not control.is_dir():
        units: dict[str, list[int]] = {}
        for pid, _ in processes:
            if unit := _unit(pid):
                units.setdefault(unit, []).append(pid)
        yield from sorted(units.items())
        return
    for path in sorted(control.glob("*.pid")):
        family = [int(path.read_text(encoding="utf-8") or -1)]
        for pid, (parent, _) in processes:
            if parent in family:
                family.append(pid)
        yield path.stem, [pid for pid in family if Path(f"/proc/{pid}").exists()]


def _processes() -> dict[int, tuple[int, int]]:
    """Parent and start (ticks since the boot) of every process, by proc_pid_stat(5)."""
    found = {}
    for path in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = path.read_text(encoding="utf-8", errors="replace").rpartition(")")[2].split()
        except OSError:
            continue  # it has just ended
        found[int(path.parent.name)] = (int(fields[1]), int(fields[19]))
    return found


def _unit(pid: int) -> str:
    try:
        found = UNIT.search(Path(f"/proc/{pid}/cgroup").read_text(encoding="utf-8"))
    except OSError:
        return ""
    return found[1] if found else ""


def _service(pids: list[int]) -> dict[str, Any]:
    started, opened, resident = 0, Counter[str](), 0
    for pid in pids:
        place = Path(f"/proc/{pid}")
        try:
            resident += int((place / "statm").read_text(encoding="utf-8").split()[1]) * os.sysconf("SC_PAGESIZE")
            stat = (place / "stat").read_text(encoding="utf-8", errors="replace")
            started = started or int(stat.rpartition(")")[2].split()[19])
            opened.update(_opened(place / "fd"))
        except (OSError, ValueError, IndexError):
            continue  # it has just ended
    return {
        "main": pids[0],
        "started": started,
        "served_s": _uptime_s() - started / os.sysconf("SC_CLK_TCK"),
        "processes": len(pids),
        "resident_bytes": resident,
        "open": dict(opened),
    }


def _uptime_s() -> float:
    return float(Path("/proc/uptime").read_text(encoding="ascii").split()[0])


def _opened(descriptors: Path) -> Iterator[str]:
    """A word for what has no name, the path for what has one."""
    for descriptor in descriptors.iterdir():
        try:
            target = str(descriptor.readlink())
        except OSError:
            continue
        yield "deleted files" if target.endswith(" (deleted)") else re.sub(r":\[\d+\]$", "s", target)


COMMANDS = {"held": held}

if __name__ == "__main__":
    print(json.dumps(COMMANDS[sys.argv[1]](Path(sys.argv[2]))))  # noqa: T201 - its answer
