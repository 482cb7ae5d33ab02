"""Turns a root into a raw disk that boots by UEFI: GPT, an EFI partition, an ext4 root. No loop device, no mount.

The file systems are made as files and laid into the disk at their places.
"""

import hashlib
import shutil
import uuid
from dataclasses import dataclass
from pathlib import Path

from provisioning.build_store.commands import need_programs, run

MIB = 1 << 20
TIMEOUT_S = 900.0
ESP_MIB = 512
# Room for logs and a second release until the first boot grows the root.
FREE_MIB = 2048
FIRST_MIB = 1
# The backup of the partition table needs 33 sectors at the end.
LAST_MIB = 1
ROOT_LABEL = "borough"
ESP_LABEL = "ESP"
ESP_TYPE = "c12a7328-f81f-11d2-ba4b-00a0c93ec93b"
ROOT_TYPE = "4f68bce3-e8cd-4db1-96e7-fbcaf984b709"


@dataclass(frozen=True, slots=True, kw_only=True)
class DiskOrder:
    """What to make a disk of. `seed` names the content: the same seed gives the same identifiers of partitions."""

    root: Path
    esp: Path
    target: Path
    seed: str
    epoch: int

    def identifier(self, what: str) -> str:
        """Return a UUID of this disk's own."""
        return str(uuid.UUID(bytes=hashlib.sha256(f"{self.seed} {what}".encode()).digest()[:16], version=5))


def make_disk(order: DiskOrder) -> None:
    """Write the raw disk image, sparse. Raises BuildError."""
    need_programs("sfdisk", "mkfs.ext4", "mkfs.vfat", "mcopy", "dd", "du")
    root_mib = _used_mib(order.root) * 5 // 4 + FREE_MIB
    scratch = order.target.with_name(f".{order.target.name}.parts")
    scratch.mkdir()
    try:
        with order.target.open("wb") as disk:
            disk.truncate((FIRST_MIB + ESP_MIB + root_mib + LAST_MIB) * MIB)
        _partition(order, root_mib, scratch)
        _lay(_make_esp(order, scratch), order.target, FIRST_MIB)
        _lay(_make_root(order, root_mib, scratch), order.target, FIRST_MIB + ESP_MIB)
    finally:
        shutil.rmtree(scratch)


def _used_mib(directory: Path) -> int:
    return int(run(["du", "--summarize", "--block-size=1M", str(directory)], timeout_s=TIMEOUT_S).split()[0])


def _partition(order: DiskOrder, root_mib: int, scratch: Path) -> None:
    script = scratch / "layout.sfdisk"
    script.write_text(
        f"label: gpt\nlabel-id: {order.identifier('disk')}\n"
        f"start={FIRST_MIB}MiB, size={ESP_MIB}MiB, type={ESP_TYPE}, uuid={order.identifier('esp')}, name=esp\n"
        f"size={root_mib}MiB, type={ROOT_TYPE}, uuid={order.identifier('root')}, name=root\n",
        encoding="utf-8",
    )
    run(["sh", "-c", 'sfdisk --quiet --no-tell-kernel "$1" < "$2"', "sh", str(order.target), str(script)], timeout_s=60)


def _make_esp(order: DiskOrder, scratch: Path) -> Path:
    image = scratch / "esp"
    with image.open("wb") as file:
        file.truncate(ESP_MIB * MIB)
    environment = {"SOURCE_DATE_EPOCH": str(order.epoch)}
    number = order.identifier("esp")[:8]
    run(["mkfs.vfat", "-F", "32", "-i", number, "-n", ESP_LABEL, str(image)], timeout_s=60, environment=environment)
    members = sorted(str(path) for path in order.esp.iterdir())
    run(["mcopy", "-s", "-m", "-i", str(image), *members, "::/"], timeout_s=TIMEOUT_S, environment=environment)
    return image


def _make_root(order: DiskOrder, root_mib: int, scratch: Path) -> Path:
    image = scratch / "root"
    command = ["mkfs.ext4", "-q", "-F", "-L", ROOT_LABEL, "-U", order.identifier("filesystem")]
    command += ["-E", f"hash_seed={order.identifier('hash')},lazy_itable_init=1", "-m", "1"]
    run(
        [*command, "-d", str(order.root), str(image), f"{root_mib}M"],
        timeout_s=TIMEOUT_S,
        environment={"SOURCE_DATE_EPOCH": str(order.epoch)},
    )
    return image


def _lay(image: Path, disk: Path, at_mib: int) -> None:
    command = ["dd", f"if={image}", f"of={disk}", "bs=1M", f"seek={at_mib}", "conv=notrunc,sparse", "status=none"]
    run(command, timeout_s=TIMEOUT_S)
    image.unlink()
