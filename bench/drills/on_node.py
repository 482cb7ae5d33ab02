"""Runs on a node, with its release or as a part of a drill there: looks at the calls of its workers, and ends one.

A node is known by its workers' settings, `calls-*.toml` in one folder. Imports nothing of the bench: it is sent to
machines as it stands (`python - COMMAND SETTINGS ... < on_node.py`) and answers one line of JSON.
"""

import contextlib
import json
import os
import signal
import socket
import sys
import time
import tomllib
import urllib.error
import urllib.request
from collections.abc import Callable
from pathlib import Path
from typing import Any

LONGEST_MARK_BYTES = 200
ANSWER_WITHIN_S = 3.0
CORDONS = ("current/cordoned", "isolated")


def workers(settings: Path) -> list[dict[str, Any]]:
    """The settings of every worker of the node."""
    return [tomllib.loads(path.read_text(encoding="utf-8")) for path in sorted(settings.glob("calls-*.toml"))]


def calls(settings: Path) -> list[dict[str, Any]]:
    """Who has which call, since when (epoch seconds), by the slots that are held."""
    return _held(Path(workers(settings)[0]["slots"]["directory"]))


def kill_worker(settings: Path, call_id: str) -> dict[str, Any]:
    """`kill -9` of the worker that has the call."""
    held = calls(settings)
    owner = next((call["worker"] for call in held if call["call_id"] == call_id), None)
    if owner is None:
        return {"at": time.time(), "worker": None, "call_ids": []}
    at = time.time()
    os.kill(owner, signal.SIGKILL)
    return {"at": at, "worker": owner, "call_ids": [call["call_id"] for call in held if call["worker"] == owner]}


def health(settings: Path) -> dict[str, Any]:
    """What keeps the node from serving, and its figures."""
    found = workers(settings)
    troubles = [trouble for worker in found for trouble in _troubles(worker, len(found) - 1)]
    troubles += (
        [f"it is out of rotation ({path.name})" for path in _cordons(found[0]) if path.exists()] if found else []
    )
    if found and not _listens(found[0].get("inference", {}).get("socket")):
        troubles.append("its inference does not answer")
    return {
        "troubles": troubles if found else ["it has no workers"],
        "running_calls": len(calls(settings)) if found else 0,
        "capacity": found[0]["slots"]["capacity"] if found else 0,
        "workers": len(found),
    }


def turns(settings: Path) -> list[tuple[str, str, int]]:
    """Every committed turn of every tenant on the node's disk."""
    # A release of the node has it; nothing else of ours is needed.
    from edge.records.database import DatabaseSettings, database_path, open_reader, tenants_in  # noqa: PLC0415

    directory = Path(workers(settings)[0]["records"]["directory"])
    found: list[tuple[str, str, int]] = []
    for tenant in tenants_in(directory):
        with contextlib.closing(open_reader(database_path(directory, tenant), DatabaseSettings())) as reader:
            found += [
                (tenant, str(call), int(str(seq))) for call, seq in reader.execute("SELECT call_id, seq FROM turns")
            ]
    return found


def _held(slots: Path) -> list[dict[str, Any]]:
    """By proc_locks(5): the holder of each slot's lock."""
    holders: dict[int, int] = {}
    for line in Path("/proc/locks").read_text(encoding="utf-8").splitlines():
        fields = line.split()
        if fields[1] == "FLOCK":
            holders[int(fields[5].split(":")[2])] = int(fields[4])
    found = []
    for path in sorted(slots.glob("[0-9]*")):
        status = path.stat()
        call_id = path.read_bytes()[:LONGEST_MARK_BYTES].decode(errors="replace")
        if status.st_ino in holders and call_id:
            found.append({"call_id": call_id, "worker": holders[status.st_ino], "taken_at": status.st_mtime})
    return found


def _listens(path: str | None) -> bool:
    """Whether somebody takes connections there; where nothing is configured, nothing is wanted."""
    if path is None:
        return True
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        probe.settimeout(ANSWER_WITHIN_S)
        try:
            probe.connect(path)
        except OSError:
            return False
    return True


def _cordons(worker: dict[str, Any]) -> list[Path]:
    """Files that keep a node from taking calls: its own, the hub's, and the one of a node that is cut off."""
    own = worker["slots"].get("cordon_file")
    sync = worker.get("sync", {}).get("directory")
    found = [Path(own)] if own else []
    return [*found, *(Path(sync) / name for name in CORDONS if sync)]


def _troubles(worker: dict[str, Any], siblings: int) -> list[str]:
    name, page = worker["worker"]["name"], f"http://127.0.0.1:{worker['web']['port']}"
    try:
        _fetch(f"{page}/ready")
        known = _figure(_fetch(f"{page}/metrics"), "borough_siblings ")
    except (OSError, urllib.error.URLError) as error:
        return [f"{name} is not ready ({error})"]
    return [] if known >= siblings else [f"{name} knows {known:.0f} of {siblings} siblings"]


def _fetch(url: str) -> str:
    with urllib.request.urlopen(url, timeout=ANSWER_WITHIN_S) as answer:  # noqa: S310 - loopback
        return str(answer.read().decode())


def _figure(metrics: str, name: str) -> float:
    return sum(float(line.split()[1]) for line in metrics.splitlines() if line.startswith(name))


COMMANDS: dict[str, Callable[..., Any]] = {
    "calls": calls,
    "health": health,
    "kill-worker": kill_worker,
    "turns": turns,
}

if __name__ == "__main__":
    print(json.dumps(COMMANDS[sys.argv[1]](Path(sys.argv[2]), *sys.argv[3:])))  # noqa: T201 - its answer
