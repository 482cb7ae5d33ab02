"""Knowledge: from messages of the mirror to the tenants' replicas, or to a reason why not.

Only the newest message of a tenant waits to be applied. Where it does not follow what runs (a burst of deltas, a node
that was away), the chain to it is read from the mirror: the deltas that are missing, or the newest snapshot and the
deltas after it.
"""

import asyncio
import contextlib
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

import structlog
from google.protobuf.message import DecodeError

from contract import subjects, uplink_pb2
from contract.alarms import AlarmCode
from contract.downlink_pb2 import KnowledgeManifest, KnowledgeMessage
from contract.names import is_name
from edge.knowledge.database import AppliedVersion
from edge.knowledge.errors import KnowledgeDamagedError, KnowledgeRefusedError
from edge.sync.acks import AckOutbox
from edge.sync.alarms import Alarms
from edge.sync.beats import BeatWatch
from edge.sync.connection import NATS_ERRORS
from edge.sync.errors import RefusedError
from edge.sync.verification import TrustedKeys, parsed

log = structlog.get_logger(__name__)

RETRY_AFTER_S = 15.0


class Replica(Protocol):
    """The tenants' knowledge on this node; every method blocks."""

    def tenants(self) -> tuple[str, ...]: ...
    def version(self, tenant: str) -> AppliedVersion | None: ...
    def apply_snapshot(self, manifest: KnowledgeManifest, file: Path, *, towards: int = 0) -> None: ...
    def apply_delta(self, manifest: KnowledgeManifest, content: bytes) -> None: ...
    def remove(self, tenant: str) -> None: ...


class Archive(Protocol):
    """What the region still holds of earlier messages and snapshots."""

    async def history(self, tenant: str, take: Callable[[bytes], None]) -> None: ...
    async def fetch(self, name: str, target: Path) -> None: ...
    async def forget(self, tenant: str, snapshots: Iterable[str]) -> None: ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """One verified message."""

    manifest: KnowledgeManifest
    content: bytes

    @property
    def is_snapshot(self) -> bool:
        return self.manifest.WhichOneof("content") == "snapshot"

    @property
    def is_removal(self) -> bool:
        return self.manifest.WhichOneof("content") == "removal"


class Held:
    """Messages that may lead from the version that runs to the target, and no others: each may have megabytes."""

    def __init__(self, *, running: int, target: Step) -> None:
        self.steps: dict[int, Step] = {target.manifest.version: target}
        self._least, self._most = running + 1, target.manifest.version

    def take(self, step: Step) -> None:
        """Keep it if it may be needed. A snapshot makes everything before it needless."""
        version = step.manifest.version
        if not self._least <= version <= self._most or version in self.steps:
            return
        self.steps[version] = step
        if step.is_snapshot:
            self._least = version
            self.steps = {held: step for held, step in self.steps.items() if held >= version}


@dataclass(kw_only=True)
class KnowledgeSync:
    """Applies the newest knowledge of every tenant of the region."""

    region: str
    keys: TrustedKeys
    replica: Replica
    archive: Archive
    downloads: Path
    acks: AckOutbox
    node_alarms: Alarms
    snapshot_missing: Callable[[], None] = lambda: None
    has_room: Callable[[], bool] = lambda: True
    beats: BeatWatch = field(default_factory=BeatWatch)
    versions: dict[str, AppliedVersion] = field(default_factory=dict)
    _newest: dict[str, bytes] = field(default_factory=dict)
    _again_at: dict[str, tuple[float, bytes]] = field(default_factory=dict)
    _refused: set[str] = field(default_factory=set)
    _came: asyncio.Event = field(default_factory=asyncio.Event)

    def handle(self, subject: str, payload: bytes) -> None:
        """A message of the mirrored stream."""
        if subject == subjects.knowledge_beat(self.region):
            self.beats.hear(payload)
            return
        tenant = subject.removeprefix(subjects.knowledge(self.region, ""))
        if is_name(tenant):
            self._newest[tenant] = payload
            self._came.set()

    async def run(self) -> None:
        """Apply what comes, one tenant after the other; what failed for want of something is tried again."""
        await self._read_versions()
        while True:
            while self._newest:
                tenant = next(iter(self._newest))
                self._again_at.pop(tenant, None)
                await self.apply(tenant, self._newest.pop(tenant))
            self._came.clear()
            await self._wait()

    async def apply(self, tenant: str, payload: bytes) -> None:
        """Bring a tenant to the version of this message, or refuse it and say why."""
        try:
            target = self._opened(tenant, payload)
            if target.is_removal:
                await self._remove(tenant, target)
            elif not await self._is_running(tenant, target):
                for step in await self._steps_to(tenant, target):
                    await self._take(step, towards=target.manifest.version)
                await self._read_version(tenant)
        except KnowledgeDamagedError:
            # The replica was set aside; the next round starts from nothing.
            self._try_again(tenant, payload, after_s=0.0)
        except (RefusedError, KnowledgeRefusedError) as error:
            self._refuse(tenant, payload, RefusedError(error.refusal, str(error)))
        except (*NATS_ERRORS,) as error:
            log.warning("knowledge_not_read", tenant=tenant, detail=type(error).__name__)
            self._try_again(tenant, payload, after_s=RETRY_AFTER_S)
        else:
            self._settle(tenant, target.manifest.version)

    async def _remove(self, tenant: str, target: Step) -> None:
        """The region serves the tenant no longer. A replica of a later version is one of a tenant that came back."""
        running = await self._read_version(tenant)
        if running is not None and target.manifest.version < running.version:
            raise RefusedError(uplink_pb2.REFUSAL_REPLAYED, f"version {running.version} came after this removal")
        snapshots: set[str] = set()

        def take(payload: bytes) -> None:
            with contextlib.suppress(RefusedError):
                step = self._opened(tenant, payload)
                if step.is_snapshot:
                    snapshots.add(step.manifest.snapshot.object)

        await asyncio.to_thread(self.replica.remove, tenant)
        self.versions.pop(tenant, None)
        await self.archive.history(tenant, take)
        await self.archive.forget(tenant, snapshots)
        log.info("knowledge_removed", tenant=tenant, version=target.manifest.version)

    def _opened(self, tenant: str, payload: bytes) -> Step:
        message = parsed(KnowledgeMessage, payload)
        manifest = parsed(KnowledgeManifest, self.keys.body_of(message.manifest))
        if manifest.region != self.region:
            raise RefusedError(uplink_pb2.REFUSAL_WRONG_REGION, "the knowledge is for another region")
        if manifest.tenant != tenant or manifest.WhichOneof("content") is None:
            raise RefusedError(uplink_pb2.REFUSAL_MALFORMED, "the manifest is not the tenant's, or names no content")
        return Step(manifest=manifest, content=message.content)

    async def _is_running(self, tenant: str, target: Step) -> bool:
        running = await self._read_version(tenant)
        if running is None or target.manifest.version > running.version:
            return False
        if target.manifest.version == running.version:
            return True
        text = f"version {target.manifest.version} is older than {running.version}"
        raise RefusedError(uplink_pb2.REFUSAL_REPLAYED, text)

    async def _steps_to(self, tenant: str, target: Step) -> Sequence[Step]:
        running = self.versions.get(tenant)
        version = running.version if running is not None else 0
        if target.is_snapshot or target.manifest.delta.version == version:
            return [target]
        held = Held(running=version, target=target)

        def take(payload: bytes) -> None:
            with contextlib.suppress(RefusedError):
                held.take(self._opened(tenant, payload))

        await self.archive.history(tenant, take)
        return chain(held.steps, version, target.manifest.version)

    async def _take(self, step: Step, *, towards: int) -> None:
        if not step.is_snapshot:
            await asyncio.to_thread(self.replica.apply_delta, step.manifest, step.content)
            return
        if not self.has_room():
            raise RefusedError(uplink_pb2.REFUSAL_NO_SPACE, "the disk is low: no snapshot is fetched")
        file = self.downloads / f"{step.manifest.tenant}.snapshot"
        try:
            await self.archive.fetch(step.manifest.snapshot.object, file)
            await asyncio.to_thread(self.replica.apply_snapshot, step.manifest, file, towards=towards)
        finally:
            await asyncio.to_thread(file.unlink, missing_ok=True)

    async def _read_versions(self) -> None:
        for tenant in await asyncio.to_thread(self.replica.tenants):
            try:
                await self._read_version(tenant)
            except (KnowledgeDamagedError, KnowledgeRefusedError):
                continue

    async def _read_version(self, tenant: str) -> AppliedVersion | None:
        self.versions.pop(tenant, None)
        version = await asyncio.to_thread(self.replica.version, tenant)
        if version is not None:
            self.versions[tenant] = version
        return version

    def _settle(self, tenant: str, version: int) -> None:
        self._refused.discard(tenant)
        self.node_alarms.set(AlarmCode.KNOWLEDGE_REFUSED, is_raised=bool(self._refused))
        self.acks.knowledge(tenant, version)

    def _refuse(self, tenant: str, payload: bytes, error: RefusedError) -> None:
        version = _claimed_version(payload)
        name = uplink_pb2.Refusal.Name(error.refusal)
        log.error("knowledge_refused", tenant=tenant, version=version, refusal=name)
        self._refused.add(tenant)
        self.node_alarms.raise_(AlarmCode.KNOWLEDGE_REFUSED)
        self.acks.knowledge(tenant, version, error)
        if error.refusal == uplink_pb2.REFUSAL_INCOMPLETE:
            self.snapshot_missing()
        if error.refusal in {uplink_pb2.REFUSAL_INCOMPLETE, uplink_pb2.REFUSAL_GAP, uplink_pb2.REFUSAL_NO_SPACE}:
            self._try_again(tenant, payload, after_s=RETRY_AFTER_S)

    def _try_again(self, tenant: str, payload: bytes, *, after_s: float) -> None:
        self._again_at[tenant] = (time.monotonic() + after_s, payload)

    async def _wait(self) -> None:
        """Wait for a message, or until something is to be tried again."""
        due_at = min((at for at, _ in self._again_at.values()), default=None)
        try:
            async with asyncio.timeout(None if due_at is None else max(0.0, due_at - time.monotonic())):
                await self._came.wait()
        except TimeoutError:
            now = time.monotonic()
            for tenant, (at, payload) in list(self._again_at.items()):
                if at <= now:
                    self._newest.setdefault(tenant, payload)


def chain(held: dict[int, Step], running: int, target: int) -> list[Step]:
    """The messages that lead from the version that runs to the target, through as few as needed.

    Raises RefusedError(GAP) where they are not all held.
    """
    steps: list[Step] = []
    version = target
    while version > running:
        step = held.get(version)
        if step is None:
            raise RefusedError(uplink_pb2.REFUSAL_GAP, f"version {version} is not held any more")
        steps.append(step)
        if step.is_snapshot:
            break
        version = step.manifest.delta.version
    return steps[::-1]


def _claimed_version(payload: bytes) -> int:
    """The version a message says it has, 0 where it says none; not to be believed, only to be named in a refusal."""
    try:
        return int(KnowledgeManifest.FromString(KnowledgeMessage.FromString(payload).manifest.body).version)
    except DecodeError:
        return 0
