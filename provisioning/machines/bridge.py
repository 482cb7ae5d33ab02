"""The private bridge that machines are joined by; nothing is routed between it and the outside."""

import json
import subprocess

from provisioning.machines.errors import MachineUnableError
from provisioning.machines.plan import MachinesPlan, Place

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


def unplug(place: Place) -> None:
    """Take a machine's cable out: its interface stays up on its side and hears nobody. Raises MachineUnableError."""
    _ip("link", "set", host_side(place), "nomaster")


def plug_in(plan: MachinesPlan, place: Place) -> None:
    """Put the cable back. Raises MachineUnableError."""
    _ip("link", "set", host_side(place), "master", plan.bridge)


def host_side(place: Place) -> str:
    """The name that systemd-nspawn gives to this end of a machine's cable."""
    return f"vb-{place.label}"


def _links() -> set[str]:
    return {link["ifname"] for link in json.loads(_ip("-json", "link", "show"))}


def _ip(*words: str) -> str:
    try:
        return subprocess.run(["ip", *words], check=True, capture_output=True, text=True, timeout=IP_TIMEOUT_S).stdout
    except FileNotFoundError:
        raise MachineUnableError("there is no `ip` here") from None
    except subprocess.CalledProcessError as error:
        raise MachineUnableError(f"ip {' '.join(words)}: {error.stderr.strip()}") from error
