"""The disk image of a node: a machine is booted from a bare root, made by the same roles as any other, and its disk
becomes the image. It carries software, never an identity: see `cleansing`.

    node.raw                       GPT, EFI partition, ext4; boots by UEFI
    manifest.json (.sig)  sbom.cdx.json  SHA256SUMS     as beside a build store
"""

import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

import yaml

from provisioning.build_store.boot_files import make_bootable
from provisioning.build_store.cleansing import cleanse, demand_no_identity
from provisioning.build_store.commands import need_programs, need_room, need_root, run
from provisioning.build_store.disk import DiskOrder, make_disk
from provisioning.build_store.errors import NodeImageError
from provisioning.build_store.manifest import (
    SBOM,
    Component,
    Manifest,
    describe_file,
    verify_store,
    write_manifest,
)
from provisioning.build_store.root import ensure_bootable_root, installed_packages, ssh_key
from provisioning.build_store.sbom import write_sbom
from provisioning.build_store.wheels import Report
from provisioning.machines.bridge import ensure_bridge, remove_bridge
from provisioning.machines.machine import Machine
from provisioning.machines.plan import MachinesPlan
from provisioning.machines.plays import Player

IMAGE = "node.raw"
# The machine's disk, the image and the parts of it while they are put together.
NEEDED_BYTES = 12 << 30
NETWORK = "10.79.0.0/24"
BRIDGE = "boroughim"
TIMEOUT_S = 600.0


@dataclass(frozen=True, slots=True, kw_only=True)
class ImageOrder:
    """What to make an image of: a build store, `state` as `.state` of a checkout. `out` is the folder of the image."""

    store: Path
    state: Path
    out: Path
    sign_key: Path | None = None


def build_image(order: ImageOrder, report: Report) -> Manifest:
    """Make the image. Raises BuildError or MachineError."""
    need_root("booting machines")
    need_programs("mmdebstrap", "systemd-nspawn", "sfdisk", "mkfs.ext4", "mkfs.vfat", "mcopy", "ssh")
    need_room(order.out, NEEDED_BYTES)
    report("checking the store")
    store = verify_store(order.store)
    report("a bare root")
    root = ensure_bootable_root(order.state / "images")
    directory = order.state / "build" / "image"
    if directory.exists():
        raise NodeImageError(
            f"{directory} is there: another build runs, or one was interrupted",
            hint=f"when none runs: umount -l {directory}/*/mounted; rm -r {directory}",
        )
    directory.mkdir(parents=True)
    try:
        plan = MachinesPlan(nodes=0, spares=1, network=NETWORK, bridge=BRIDGE)
        machine = Machine(
            place=plan.spare_places[0], plan=plan, directory=directory / "node", root=root, key=ssh_key(root)
        )
        report("making a node by its roles")
        _provision(machine, order.store, store.version, directory)
        report("writing the disk")
        with _disk_of(machine) as mounted:
            return _write(order, store, mounted, directory / "esp")
    finally:
        shutil.rmtree(directory, ignore_errors=True)


def _provision(machine: Machine, store: Path, version: str, directory: Path) -> None:
    """Boot the machine, play image.yml on it and power it off."""
    inventory = directory / "inventory.yml"
    inventory.write_text(yaml.safe_dump(inventory_of(machine, store, version)), encoding="utf-8")
    ensure_bridge(machine.plan)
    try:
        machine.start()
        Player(inventory=inventory, log=directory / "play.log").play("image").expect_success()
        machine.power_off()
    finally:
        machine.cut_power()
        remove_bridge(machine.plan)


def inventory_of(machine: Machine, store: Path, version: str) -> dict[str, object]:
    """What the roles want to know of a machine that is to become an image: nothing of a region."""
    variables = {
        "ansible_host": machine.place.address,
        "ansible_user": "root",
        "ansible_ssh_private_key_file": str(machine.key),
        "ansible_ssh_common_args": "-o StrictHostKeyChecking=no -o UserKnownHostsFile=/dev/null -o LogLevel=ERROR",
        "borough_address": machine.place.address,
        "borough_node": "image",
        "borough_region": "none",
        "borough_store": str(store),
        "borough_version": version,
        "borough_ntp_servers": [],
        "borough_trunks": [],
        "borough_capacity": 1,
        "borough_workers": 2,
        # Enrolment writes the region's nodes in.
        "agent_servers": [],
        "litestream_servers": [],
        "inference_siblings": [],
    }
    return {"all": {"children": {"nodes": {"hosts": {"image": variables}}}}}


@contextmanager
def _disk_of(machine: Machine) -> Iterator[Path]:
    """The machine's files, while it is off, without the layer that all machines share showing through."""
    layers = f"lowerdir={machine.root},upperdir={machine.directory / 'disk'},workdir={machine.directory / 'work'}"
    run(["mount", "-t", "overlay", "borough", "-o", layers, str(machine.mounted)], timeout_s=60.0)
    try:
        yield machine.mounted
    finally:
        subprocess.run(["umount", "--lazy", str(machine.mounted)], check=False, capture_output=True)


def _write(order: ImageOrder, store: Manifest, root: Path, esp: Path) -> Manifest:
    cleanse(root)
    make_bootable(root, esp)
    demand_no_identity(root)
    order.out.mkdir(parents=True, exist_ok=True)
    created = datetime.fromisoformat(store.created_at)
    seed = f"{store.version} {store.commit}"
    target = order.out / IMAGE
    make_disk(DiskOrder(root=root, esp=esp, target=target, seed=seed, epoch=int(created.timestamp())))
    packages = [
        *(
            Component(kind="debian", name=name, version=version, licence="", sha256="", where=IMAGE)
            for name, version in installed_packages(root).items()
        ),
        *(one for one in store.packages if one.kind != "debian"),
    ]
    sbom = write_sbom(
        order.out / SBOM,
        version=store.version,
        created_at=store.created_at,
        components=[*packages, *store.models],
    )
    manifest = Manifest(
        version=store.version,
        commit=store.commit,
        created_at=store.created_at,
        python=store.python,
        files=(describe_file(target), describe_file(sbom)),
        packages=tuple(packages),
        models=store.models,
        asterisk=store.asterisk,
    )
    write_manifest(manifest, order.out, order.sign_key)
    return manifest
