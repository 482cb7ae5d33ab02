"""The private bridge that machines are joined by; nothing is routed between it and the outside."""

import json
import subprocess

from provisioning.machines.errors import MachineUnableError
from provisioning.machines.plan import MachinesPlan

IP_TIMEOUT_S = 10.0


def ensure_bridge(plan: MachinesPlan) -> None:
    """Make the bridge, with this machine's address on it. Raises MachineUnableError."""
    if plan.bridge not in _links():
        _ip("link", "add", plan.bridge, "type", "bridge")
        _ip("address", "add", f"{plan.gateway}/{plan.prefix_length}", "dev", plan.bridge)
    _ip("link", "set", plan.bridge, "up")


def remove_bridge(plan: MachinesPlan) -> None:
    """Remove the bridge, if it is there."""
    if plan.bridge in _links():
        _ip("link", "delete", plan.bridge)


def unplug(machine: str) -> None:
    """Take a machine's cable out: its interface stays up on its side and hears nobody. Raises MachineUnableError."""
    _ip("link", "set", host_side(machine), "nomaster")


def plug_in(plan: MachinesPlan, machine: str) -> None:
    """Put the cable back. Raises MachineUnableError."""
    _ip("link", "set", host_side(machine), "master", plan.bridge)


def host_side(machine: str) -> str:
    """The name that systemd-nspawn gives to this machine's end of the cable; the kernel takes 15 characters."""
    return f"vb-{machine}"[:15]


def _links() -> set[str]:
    return {link["ifname"] for link in json.loads(_ip("-json", "link", "show"))}


def _ip(*words: str) -> str:
    try:
        return subprocess.run(["ip", *words], check=True, capture_output=True, text=True, timeout=IP_TIMEOUT_S).stdout
    except FileNotFoundError:
        raise MachineUnableError("there is no `ip` here") from None
    except subprocess.CalledProcessError as error:
        raise MachineUnableError(f"ip {' '.join(words)}: {error.stderr.strip()}") from error
