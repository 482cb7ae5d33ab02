"""Of the machine itself: services, disk, models, certificates, folders."""

import asyncio
import os
import shutil
import stat
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from provisioning.models.store import ModelStore
from provisioning.node.description import NodeDescription
from provisioning.node.identity_folder import IdentityFolder
from provisioning.node.inputs import Inputs
from provisioning.node.machine import CURRENT_BUNDLE, MODELS, SYNC, VAR, Machine
from provisioning.node.places import Service
from provisioning.node.self_test.checks import Check, CheckFailedError, CheckSkippedError

# Records of a day of calls at 28 at once are some 2 GB with their replicas.
LEAST_FREE_BYTES = 2 * 1024**3
LEAST_FREE_INODES = 10_000
LEAST_DAYS = 1.0
KNOWLEDGE = "knowledge"
WRITTEN = ("records", "keys")


@dataclass(frozen=True, slots=True)
class MachineChecks:
    """One node."""

    inputs: Inputs
    node: NodeDescription

    def all(self) -> list[Check]:
        return [
            Check(
                name="services",
                within_s=20,
                ask=self.services,
                advice="systemctl status borough.target; is systemd stuck?",
            ),
            Check(name="disk", within_s=5, ask=self.disk, advice="Is a file system stuck? dmesg says."),
            Check(name="folders", within_s=5, ask=self.folders, advice="Is a file system stuck? dmesg says."),
            Check(name="certificates", within_s=5, ask=self.certificates, advice="Is a file system stuck? dmesg says."),
            Check(
                name="models", within_s=90, ask=self.models, advice="The disk is too slow to read the models in time."
            ),
            Check(name="bundle", within_s=5, ask=self.bundle, advice="Is a file system stuck? dmesg says."),
            Check(name="knowledge", within_s=5, ask=self.knowledge, advice="Is a file system stuck? dmesg says."),
            Check(
                name="prepared audio",
                within_s=10,
                ask=self.prepared_audio,
                advice="Is a file system stuck? dmesg says.",
            ),
        ]

    async def services(self) -> str:
        """systemd runs every unit of a node."""
        units = self._units()
        states = await _unit_states(units)
        wrong = [f"{unit} is {state}" for unit, state in states.items() if state != "active"]
        if wrong:
            first = next(unit for unit, state in states.items() if state != "active")
            raise CheckFailedError(", ".join(wrong), f"systemctl status {first}; journalctl -u {first} -n 50")
        return f"{len(states)} units are active"

    async def disk(self) -> str:
        """There is room for records."""
        place = self._machine.at(VAR)
        usage, inodes = shutil.disk_usage(place), os.statvfs(place)
        if usage.free < LEAST_FREE_BYTES:
            raise CheckFailedError(
                f"{usage.free // 1024**2} MB are free in {VAR}, {LEAST_FREE_BYTES // 1024**2} MB are needed",
                "Make room or enlarge the disk; `journalctl --disk-usage` and old releases are what may go.",
            )
        # File systems without a fixed number of them say 0.
        if inodes.f_files and inodes.f_favail < LEAST_FREE_INODES:
            raise CheckFailedError(f"{inodes.f_favail} inodes are free in {VAR}", "Remove small files or enlarge it.")
        return f"{usage.free / 1024**3:.1f} GB are free"

    async def folders(self) -> str:
        """The folders of records are there, their group's, and on a file system that may be written."""
        for name in WRITTEN:
            place = self._machine.at(VAR / name)
            if not place.is_dir():
                raise CheckFailedError(f"{VAR / name} does not exist", "systemd-tmpfiles --create; run the playbook.")
            mode = place.stat().st_mode
            if not mode & stat.S_IWGRP or not mode & stat.S_ISGID:
                raise CheckFailedError(
                    f"{VAR / name} has mode {stat.S_IMODE(mode):o}, not 2770",
                    "systemd-tmpfiles --create sets it right; else agent and Litestream cannot follow the records.",
                )
            if _is_mounted_read_only(VAR / name, Path("/proc/1/mountinfo")):
                raise CheckFailedError(f"{VAR / name} is read-only", "The disk may be damaged: dmesg, then fsck.")
        return "records and keys can be written"

    async def certificates(self) -> str:
        """All are there and good."""
        folder: IdentityFolder = self.inputs.identity()
        if not folder.is_enrolled:
            raise CheckFailedError("this node is not enrolled", "borough node enroll --token-file FILE")
        now = datetime.now(UTC)
        soonest = min(folder.held(), key=lambda held: held.not_after)
        days = soonest.expires_in_days(now)
        if days < LEAST_DAYS:
            raise CheckFailedError(
                f"the certificate {soonest.role} ends in {days:.1f} days", "borough node renew --now"
            )
        return f"good for {days:.0f} days"

    async def models(self) -> str:
        """Every byte of every model is what it should be."""
        store = ModelStore(root=self._machine.at(MODELS))
        for name in self.node.models.all:
            await asyncio.to_thread(store.verify, name)
        return f"{len(self.node.models.all)} models have the hashes of their manifests"

    async def bundle(self) -> str:
        """The configuration of the region has come."""
        version = self.inputs.bundle_version()
        if version == 0:
            raise CheckFailedError(
                "there is no bundle yet",
                "It comes from the hub: is the link up (check `hub`), has the region a document (borough get region)?",
            )
        return f"bundle {version}, {len(self._tenants())} tenants"

    async def knowledge(self) -> str:
        """What tenants publish has come; a tenant need not have any."""
        folder = self._machine.at(SYNC / KNOWLEDGE)
        known = {path.name.partition(".")[0] for path in folder.glob("*.db")} if folder.is_dir() else set()
        if self.inputs.bundle_version() and not folder.is_dir():
            raise CheckFailedError(f"{SYNC / KNOWLEDGE} does not exist", "systemctl restart borough-agent")
        return f"of {len(known & set(self._tenants()))} of {len(self._tenants())} tenants"

    async def prepared_audio(self) -> str:
        """What agents often say was synthesised."""
        if not self._tenants():
            raise CheckSkippedError("no tenant is served here yet")
        clips = sum(1 for _ in self._machine.at(VAR / "prepared").glob("*.pcm"))
        if clips == 0:
            raise CheckFailedError(
                "no clip is there", "Workers make them at their start: journalctl -u borough-calls@1"
            )
        return f"{clips} clips"

    @property
    def _machine(self) -> Machine:
        return self.inputs.machine

    def _tenants(self) -> list[str]:
        current = self._machine.at(CURRENT_BUNDLE)
        return sorted(path.name for path in current.iterdir() if path.is_dir()) if current.is_dir() else []

    def _units(self) -> list[str]:
        one = (Service.NATS, Service.INFERENCE, Service.ASTERISK, Service.AGENT, Service.LITESTREAM)
        calls = [f"{Service.CALLS}@{index}" for index in range(1, self.node.workers + 1)]
        return [f"{unit}.service" for unit in (*one, *calls)]


async def _unit_states(units: Sequence[str]) -> dict[str, str]:
    try:
        process = await asyncio.create_subprocess_exec(
            *("systemctl", "show", "--property=ActiveState", "--value", *units),
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
        )
    except FileNotFoundError:
        raise CheckSkippedError("there is no systemd here") from None
    try:
        output, errors = await process.communicate()
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    if process.returncode != 0:
        text = errors.decode(errors="replace").strip()
        if "not been booted with systemd" in text:
            raise CheckSkippedError("this machine was not booted with systemd")
        raise CheckFailedError(text, "systemctl status")
    # One value a unit, with an empty line between them.
    return dict(zip(units, output.decode().split(), strict=True))


def _is_mounted_read_only(place: Path, mountinfo: Path) -> bool:
    """As the first process sees it: this one may be confined. See proc_pid_mountinfo(5)."""
    try:
        lines = mountinfo.read_text(encoding="utf-8").splitlines()
    except OSError:
        return False
    best, is_read_only = "", False
    for line in lines:
        fields = line.split()
        mounted, options = fields[4], fields[5]
        if place.is_relative_to(mounted) and len(mounted) >= len(best):
            best, is_read_only = mounted, "ro" in options.split(",")
    return is_read_only
