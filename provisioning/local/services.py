"""Single services of the running machine: looked at, stopped, started and killed, as `systemctl` does on a real one."""

import os
import signal
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from provisioning.local.errors import ServiceUnknownError
from provisioning.local.layout import StateLayout, read_region_file
from provisioning.local.process import hold_file, pid_file


@dataclass(frozen=True, slots=True, kw_only=True)
class LocalService:
    """A service of a node or of the hub; `pid` None while it is dead."""

    place: str
    name: str
    control: Path
    pid: int | None
    is_held: bool


def services(layout: StateLayout) -> Iterator[LocalService]:
    """Every service of the running machine. Raises NotRunningError."""
    read_region_file(layout)
    for place in (layout.hub, *(layout.node(path.name) for path in sorted((layout.root / "nodes").glob("*")))):
        names = {path.stem for path in place.control.glob("*.pid")} | {
            path.stem for path in place.control.glob("*.hold")
        }
        for name in sorted(names):
            yield LocalService(
                place=place.root.name,
                name=name,
                control=place.control,
                pid=_living(pid_file(place.control, name)),
                is_held=hold_file(place.control, name).exists(),
            )


def find_service(layout: StateLayout, name: str) -> LocalService:
    """The service of a name such as `hub/nats`. Raises ServiceUnknownError."""
    known = {f"{service.place}/{service.name}": service for service in services(layout)}
    if name not in known:
        raise ServiceUnknownError(f"there is no service {name}; there are: {', '.join(known)}")
    return known[name]


def stop_service(service: LocalService, number: signal.Signals = signal.SIGTERM) -> None:
    """End a service and keep it from being started again until `start_service`."""
    hold_file(service.control, service.name).touch()
    if service.pid is not None:
        os.kill(service.pid, number)


def start_service(service: LocalService) -> None:
    """Let a stopped service be started again."""
    hold_file(service.control, service.name).unlink(missing_ok=True)


def _living(path: Path) -> int | None:
    try:
        pid = int(path.read_text(encoding="utf-8"))
        os.kill(pid, 0)
    except (FileNotFoundError, ValueError, ProcessLookupError):
        return None
    return pid
