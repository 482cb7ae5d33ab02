"""What a root needs to boot by itself from a disk: the files of images/node/tree, a kernel, a boot loader.

The EFI partition is filled by the programs that fill it again at every kernel upgrade on the node.
"""

import shutil
from pathlib import Path

from provisioning.build_store.commands import run
from provisioning.build_store.errors import NodeImageError
from provisioning.build_store.root import RECIPE_DIRECTORY, make_host_keys_at_boot

TREE = RECIPE_DIRECTORY / "tree"
ESP_AT = "boot/efi"
LOADER = "usr/lib/systemd/boot/efi/systemd-bootx64.efi"
UNITS = (
    "borough-enrol.path",
    "borough-first-boot.service",
    "nftables.service",
    "serial-getty@ttyS0.service",
    "ssh.service",
    "systemd-networkd.service",
    "systemd-resolved.service",
)
TIMEOUT_S = 120.0


def make_bootable(root: Path, esp: Path) -> None:
    """Complete a root for a disk, and write the content of its EFI partition to `esp`. Raises BuildError."""
    run(["cp", "--recursive", "--preserve=mode", "--no-target-directory", str(TREE), str(root)], timeout_s=TIMEOUT_S)
    make_host_keys_at_boot(root)
    _in(root, "systemctl", "enable", "--quiet", *UNITS)
    (root / ESP_AT).mkdir(exist_ok=True)
    _install_kernel(root)
    _install_loader(root)
    shutil.copytree(root / ESP_AT, esp)
    shutil.rmtree(root / ESP_AT)
    (root / ESP_AT).mkdir()


def _install_kernel(root: Path) -> None:
    kernels = sorted((root / "boot").glob("vmlinuz-*"))
    if not kernels:
        raise NodeImageError(f"{root} has no kernel", hint="keep linux-image-cloud-amd64 in images/node/boot.txt")
    version = kernels[-1].name.removeprefix("vmlinuz-")
    # Without mounts the kernel has been laid out before; the initial RAM disk is the one that its package made.
    _in(root, "kernel-install", "add", version, f"/boot/vmlinuz-{version}", f"/boot/initrd.img-{version}")
    for entry in (root / ESP_AT / "loader/entries").glob("*.conf"):
        # kernel-install takes the mount point off the paths, which is none here.
        entry.write_text(entry.read_text(encoding="utf-8").replace(f"/{ESP_AT}/", "/"), encoding="utf-8")


def _install_loader(root: Path) -> None:
    loader = next((path for path in (root / f"{LOADER}.signed", root / LOADER) if path.is_file()), None)
    if loader is None:
        raise NodeImageError(f"{root} has no {LOADER}", hint="keep systemd-boot in images/node/boot.txt")
    for target in ("EFI/BOOT/BOOTX64.EFI", "EFI/systemd/systemd-bootx64.efi"):
        path = root / ESP_AT / target
        path.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(loader, path)
    (root / ESP_AT / "loader/loader.conf").write_text("timeout 0\neditor no\n", encoding="utf-8")


def _in(root: Path, *command: str) -> None:
    run(["chroot", str(root), *command], timeout_s=TIMEOUT_S)
