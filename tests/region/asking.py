"""Questions to a machine, by pytest-testinfra over SSH."""

from pathlib import Path
from typing import Any

import testinfra  # type: ignore[import-untyped]

from provisioning.machines.machine import Machine

# testinfra's host has no types.
Host = Any
# A minimal Debian has no curl.
FETCH = "python3 -c 'import sys, urllib.request as r; print(r.urlopen(sys.argv[1]).read().decode())'"


def host_of(machine: Machine, sockets: Path) -> Host:
    """A machine that answers questions; connections are shared by a socket in `sockets`."""
    return testinfra.get_host(
        f"ssh://root@{machine.place.address}",
        ssh_identity_file=str(machine.key),
        ssh_extra_args="-o StrictHostKeyChecking=no -o UserKnownHostsFile=/dev/null -o LogLevel=ERROR",
        controlpath=str(sockets / machine.place.name),
        controlpersist=60,
    )


def address_of(host: Host) -> str:
    """Its own, on the machines' network."""
    return str(host.backend.host.name)


def guard_of(host: Host, path: str) -> tuple[str, str, int]:
    """Owner, group and mode of a file."""
    file = host.file(path)
    return file.user, file.group, file.mode


def lines_of(host: Host, command: str) -> list[str]:
    """What a command prints; it must succeed."""
    return [str(line) for line in host.check_output(command).splitlines()]


def is_served(host: Host, service: str) -> bool:
    """Whether a service runs, and will after a boot."""
    found = host.service(service)
    return bool(found.is_running and found.is_enabled)
