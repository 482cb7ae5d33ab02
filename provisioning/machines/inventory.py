"""The inventory of a rehearsal: what a regional team writes about its machines, written for these."""

import secrets
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from provisioning.machines.plan import MachinesPlan, Place

CARRIER_SIP_PORT = 5060
SECRET_BYTES = 32


@dataclass(frozen=True, slots=True, kw_only=True)
class RehearsalInventory:
    """An Ansible inventory of these machines; they install `version` from the build store `store`, whose signature
    `store_key` (public) checks."""

    directory: Path
    plan: MachinesPlan
    store: Path
    store_key: Path
    version: str
    ssh_key: Path
    # Calls at once on a node: three of them share this machine's cores with the carrier.
    capacity: int = 8
    workers: int = 2
    # Nodes that were taken out of the region, by name.
    left_out: frozenset[str] = frozenset()

    def write(self) -> Path:
        """Write it anew; the region's secrets stay as they were."""
        nodes, everyone = self.directory / "group_vars" / "nodes", self.directory / "group_vars" / "all"
        for folder in (nodes, everyone, self.directory / "host_vars"):
            folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        _write(self.directory / "hosts.yml", self._hosts())
        _write(everyone / "main.yml", self._everyone())
        _write(nodes / "main.yml", self._nodes())
        vault = nodes / "vault.yml"
        if not vault.exists():
            _write(vault, {"borough_secrets": _new_secrets()})
        return self.directory

    def _hosts(self) -> dict[str, Any]:
        def host(place: Place) -> dict[str, str]:
            return {"ansible_host": place.address, "borough_address": place.address, "borough_node": place.name}

        return {
            "all": {
                "children": {
                    "hub": {"hosts": {self.plan.hub.name: host(self.plan.hub)}},
                    "nodes": {
                        "hosts": {
                            place.name: host(place)
                            for place in self.plan.region_nodes
                            if place.name not in self.left_out
                        }
                    },
                }
            }
        }

    def _everyone(self) -> dict[str, Any]:
        return {
            "ansible_user": "root",
            "ansible_python_interpreter": "/usr/bin/python3",
            "ansible_ssh_private_key_file": str(self.ssh_key),
            # A machine that was made anew has another host key.
            "ansible_ssh_common_args": "-o StrictHostKeyChecking=no -o UserKnownHostsFile=/dev/null -o LogLevel=ERROR",
            "borough_store": str(self.store),
            "borough_store_key": str(self.store_key),
            "borough_version": self.version,
            "borough_region": self.plan.region,
            "borough_admin_networks": [f"{self.plan.gateway}/32"],
            # They keep the clock of the machine that they are in.
            "borough_ntp_servers": [],
        }

    def _nodes(self) -> dict[str, Any]:
        carrier = f"{self.plan.gateway}/32"
        return {
            "borough_vip": self.plan.virtual_address,
            "borough_vip_prefix": self.plan.prefix_length,
            "borough_vip_interface": "host0",
            "borough_capacity": self.capacity,
            "borough_workers": self.workers,
            "borough_trunks": [
                {
                    "name": "carrier",
                    "host": self.plan.gateway,
                    "port": CARRIER_SIP_PORT,
                    "networks": [carrier],
                }
            ],
        }


def _new_secrets() -> dict[str, Any]:
    return {
        "subjects": secrets.token_urlsafe(SECRET_BYTES),
        "master": [secrets.token_hex(SECRET_BYTES)],
        "ari": secrets.token_urlsafe(SECRET_BYTES),
    }


def _write(path: Path, values: dict[str, Any]) -> None:
    path.write_text(yaml.safe_dump(values, sort_keys=False), encoding="utf-8")
    path.chmod(0o600)
