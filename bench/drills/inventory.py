"""The operator's Ansible inventory, as far as a drill needs it: who the nodes are, how they are reached and called."""

import json
import shlex
import socket
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from bench.drills.errors import DrillImpossibleError
from bench.drills.ssh import SshMachine

ANSIBLE_WITHIN_S = 120.0
SIP_PORT = 5060


class _Trunk(BaseModel):
    model_config = ConfigDict(extra="ignore")
    host: str
    port: int = SIP_PORT


class _Host(BaseModel):
    """Other variables are for the roles."""

    model_config = ConfigDict(extra="ignore")
    ansible_host: str
    ansible_user: str = "root"
    ansible_port: int = 22
    ansible_ssh_private_key_file: str | None = None
    ansible_ssh_common_args: str = ""
    borough_address: str
    borough_node: str | None = None
    borough_region: str = ""
    borough_vip: str | None = None
    borough_trunks: list[_Trunk] = Field(default_factory=list)


@dataclass(frozen=True, slots=True, kw_only=True)
class InventoryNode:
    """A machine: how it is reached, and its address among its siblings."""

    machine: SshMachine
    address: str


@dataclass(frozen=True, slots=True, kw_only=True)
class RegionInventory:
    """One region. `trunk_host` and `trunk_port` are the trunk that leads to this machine."""

    region: str
    nodes: tuple[InventoryNode, ...]
    hub: InventoryNode | None
    virtual_address: str
    trunk_host: str
    trunk_port: int


def read_inventory(path: Path, region: str | None, sockets: Path) -> RegionInventory:
    """The region of this name, or the only one. Raises DrillImpossibleError."""
    listed = _listed(path)
    hosts = {name: _host(path, name, facts) for name, facts in listed["_meta"]["hostvars"].items()}
    members = {name: hosts[name] for name in listed.get("nodes", {}).get("hosts", []) if name in hosts}
    regions = sorted({host.borough_region for host in members.values()})
    wanted = region or (regions[0] if len(regions) == 1 else "")
    chosen = {name: host for name, host in members.items() if host.borough_region == wanted}
    if not chosen:
        raise DrillImpossibleError(f"{path} has no nodes of region {wanted or '(say which)'}; there are: {regions}")
    first = next(iter(chosen.values()))
    if first.borough_vip is None:
        raise DrillImpossibleError(f"{path}: region {wanted} has no borough_vip, so nobody knows where it is called")
    trunk = next((trunk for trunk in first.borough_trunks if _is_ours(trunk.host)), None)
    if trunk is None:
        raise DrillImpossibleError(
            f"{path}: no trunk of region {wanted} leads to this machine",
            hint="Name this machine's address as a trunk in borough_trunks, play the region's playbook, run it again.",
        )
    hubs = [name for name in listed.get("hub", {}).get("hosts", []) if name in hosts]
    return RegionInventory(
        region=wanted,
        nodes=tuple(_node(name, host, sockets) for name, host in chosen.items()),
        hub=_node(hubs[0], hosts[hubs[0]], sockets) if hubs else None,
        virtual_address=first.borough_vip,
        trunk_host=trunk.host,
        trunk_port=trunk.port,
    )


def _listed(path: Path) -> Mapping[str, Any]:
    command = [str(Path(sys.executable).with_name("ansible-inventory")), "-i", str(path), "--list"]
    try:
        done = subprocess.run(command, check=True, capture_output=True, text=True, timeout=ANSIBLE_WITHIN_S)
        listed: Mapping[str, Any] = json.loads(done.stdout)
    except FileNotFoundError:
        raise DrillImpossibleError(f"there is no {command[0]}", hint="`make setup` installs it.") from None
    except subprocess.TimeoutExpired:
        raise DrillImpossibleError(f"{path}: ansible-inventory did not end in {ANSIBLE_WITHIN_S:.0f} s") from None
    except subprocess.CalledProcessError as error:
        raise DrillImpossibleError(f"{path} cannot be read: {error.stderr.strip()[-500:]}") from error
    return listed


def _host(path: Path, name: str, facts: Mapping[str, Any]) -> _Host:
    try:
        return _Host.model_validate({"ansible_host": name, "borough_address": facts.get("ansible_host", name), **facts})
    except ValidationError as error:
        raise DrillImpossibleError(f"{path}: host {name}: {error}") from error


def _node(name: str, host: _Host, sockets: Path) -> InventoryNode:
    key = ("-i", host.ansible_ssh_private_key_file) if host.ansible_ssh_private_key_file else ()
    machine = SshMachine(
        name=host.borough_node or name,
        address=host.ansible_host,
        user=host.ansible_user,
        options=(*key, "-p", str(host.ansible_port), *shlex.split(host.ansible_ssh_common_args)),
        sockets=sockets,
    )
    return InventoryNode(machine=machine, address=host.borough_address)


def _is_ours(host: str) -> bool:
    """Whether an address can be bound here."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family, socket.SOCK_DGRAM) as probe:
        try:
            probe.bind((host, 0))
        except OSError:
            return False
    return True
