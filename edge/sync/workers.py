"""What the call workers of this node run: their state files, and whether they live."""

import fcntl
import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkerState:
    """One living worker. `refused` is the bundle it could not load (0: none), `tenant` whose documents were bad."""

    name: str
    bundle: int
    refused: int = 0
    tenant: str = ""


def living_workers(directory: Path) -> list[WorkerState]:
    """The workers that hold their lock. One that has not written its state yet counts as running nothing."""
    return [_state(directory, lock.stem) for lock in sorted(directory.glob("*.lock")) if _is_held(lock)]


def refusals(directory: Path) -> dict[tuple[str, int], int]:
    """How many calls each run of a worker refused for want of a slot, by its name and when it began; of workers that
    were killed too, until their next run replaces the file."""
    counts: dict[tuple[str, int], int] = {}
    for path in sorted(directory.glob("*.json")):
        for state in _read(path):
            began, refused = state.get("began_at_ns"), state.get("calls_refused")
            if isinstance(began, int) and isinstance(refused, int):
                counts[path.stem, began] = refused
    return counts


def _state(directory: Path, name: str) -> WorkerState:
    state: dict[str, object] = {}
    for found in _read(directory / f"{name}.json"):
        state = found
    refused = state.get("refused")
    bundle = state.get("bundle")
    return WorkerState(
        name=name,
        bundle=bundle if isinstance(bundle, int) else 0,
        refused=int(refused["bundle"]) if isinstance(refused, dict) else 0,
        tenant=str(refused["tenant"]) if isinstance(refused, dict) else "",
    )


def _read(path: Path) -> Iterator[dict[str, object]]:
    try:
        state = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return
    if isinstance(state, dict):
        yield state


def _is_held(lock: Path) -> bool:
    with lock.open("rb") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
    return False
