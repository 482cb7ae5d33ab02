"""What a node holds, before a drill and after it, and what of that is a leak. Pure.

A service opens what it needs when it first needs it (a tenant's databases, a connection to a sibling), so open files
are compared one by one: the same one many times more, or many more sockets, is a leak. Memory is compared of services
that had filled their caches before: nats-server grows from 140 to 250 MiB in its first ten minutes, and then no more.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

# More of the same kind (pipes), or of the same file.
FEW = 8
# Call workers of siblings connect to a node's inference when theirs has died, and stay.
SOCKETS = 16
# More different files: a tenant's databases and their logs, twice, for some tenants.
FILES = 40
MEMORY_BYTES, MEMORY_SHARE = 64 * 1024 * 1024, 0.25
WARM_AFTER_S = 600.0
# What a service that was started anew may hold at most.
MOST_OPEN, MOST_BYTES, MOST_PROCESSES = 1000, 4 * 1024**3, 32
# Of the run folder: one that a service made for itself.
RUN_FILES = 4
NOTHING = ("slots", "channels", "bridges")


@dataclass(frozen=True, slots=True, kw_only=True)
class ServiceHoldings:
    """The processes of a service together, the first of which `started` so many clock ticks after the boot and has run
    for `served_s`; `opened` counts descriptors by what they are of."""

    main: int
    started: int
    served_s: float
    processes: int
    resident_bytes: int
    opened: Mapping[str, int]

    @property
    def open_files(self) -> int:
        return sum(self.opened.values())


@dataclass(frozen=True, slots=True, kw_only=True)
class Holdings:
    """What a node holds now. None: it could not be asked."""

    slots: int
    channels: int | None
    bridges: int | None
    run_files: int
    sessions: int | None
    services: Mapping[str, ServiceHoldings]


def holdings_of(said: Mapping[str, Any]) -> Holdings:
    """Of what `held_on_node` answers. Raises KeyError, TypeError."""
    services = {
        name: ServiceHoldings(
            main=one["main"],
            started=one["started"],
            served_s=one["served_s"],
            processes=one["processes"],
            resident_bytes=one["resident_bytes"],
            opened=one["open"],
        )
        for name, one in said["services"].items()
    }
    counts = {name: said[name] for name in (*NOTHING, "run_files", "sessions")}
    return Holdings(**counts, services=services)


def leaks(before: Holdings, after: Holdings) -> list[str]:
    """Everything that should not be there, in words."""
    found = [f"{getattr(after, name)} {name} held" for name in NOTHING if getattr(after, name)]
    asked = [name for name in ("channels", "bridges") if getattr(before, name) is not None]
    found += [f"its {name} could not be counted" for name in asked if getattr(after, name) is None]
    if after.run_files - before.run_files > RUN_FILES:
        found.append(f"files beside its sockets: {before.run_files} before, {after.run_files} now")
    if not after.services:
        found.append("none of its services was found")
    for name, service in after.services.items():
        earlier = before.services.get(name)
        # What runs now and then is judged as what was started anew.
        grown = _grown(earlier, service) if earlier and not was_restarted(earlier, service) else _too_much(service)
        found += [f"{name}: {what}" for what in grown]
    return found


def was_restarted(before: ServiceHoldings, after: ServiceHoldings) -> bool:
    """Whether it is another process."""
    return (before.main, before.started) != (after.main, after.started)


def _grown(before: ServiceHoldings, after: ServiceHoldings) -> Iterator[str]:
    for what, count in sorted(after.opened.items()):
        more = count - before.opened.get(what, 0)
        if more > (SOCKETS if what == "sockets" else FEW):
            yield f"{what}: {more} more open"
    files = len(after.opened) - len(before.opened)
    if files > FILES:
        yield f"{files} more files open"
    if after.processes - before.processes > FEW:
        yield f"{before.processes} processes before, {after.processes} now"
    is_warm = before.served_s >= WARM_AFTER_S
    limit = before.resident_bytes * (1 + MEMORY_SHARE) + MEMORY_BYTES if is_warm else MOST_BYTES
    if after.resident_bytes > limit:
        yield f"{_mib(before.resident_bytes)} of memory before, {_mib(after.resident_bytes)} now"


def _too_much(after: ServiceHoldings) -> Iterator[str]:
    if after.open_files > MOST_OPEN:
        yield f"{after.open_files} files open"
    if after.processes > MOST_PROCESSES:
        yield f"{after.processes} processes"
    if after.resident_bytes > MOST_BYTES:
        yield f"{_mib(after.resident_bytes)} of memory"


def comparison(before: Holdings, after: Holdings) -> dict[str, Any]:
    """Both, as they stand in a report."""
    services = {
        name: {
            "was_restarted": earlier is None or was_restarted(earlier, service),
            "processes": [earlier.processes if earlier else None, service.processes],
            "open_files": [earlier.open_files if earlier else None, service.open_files],
            "resident_bytes": [earlier.resident_bytes if earlier else None, service.resident_bytes],
        }
        for name, service in after.services.items()
        for earlier in (before.services.get(name),)
    }
    counts = (*NOTHING, "run_files", "sessions")
    return {**{name: [getattr(before, name), getattr(after, name)] for name in counts}, "services": services}


def _mib(size: int) -> str:
    return f"{size / 1024**2:.0f} MiB"
