"""Configuration bundles: from a message of the mirror to the node's current documents, or to a reason why not."""

import asyncio
import errno
from dataclasses import dataclass, field

import structlog
from google.protobuf.message import DecodeError

from contract import subjects, uplink_pb2
from contract.alarms import AlarmCode
from contract.downlink_pb2 import BundleManifest, BundleMessage
from edge.sync.acks import AckOutbox
from edge.sync.alarms import Alarms
from edge.sync.beats import BeatWatch
from edge.sync.bundle import BundleReader, CheckedBundle
from edge.sync.documents import check_documents
from edge.sync.errors import RefusedError
from edge.sync.folder import SyncFolder
from edge.sync.rollout import Rollout

log = structlog.get_logger(__name__)

_RETRY_AFTER_S = 30.0


@dataclass(kw_only=True)
class ConfigSync:
    """Applies the newest bundle of the region. Older ones that came meanwhile are skipped: each is a whole."""

    region: str
    folder: SyncFolder
    reader: BundleReader
    rollout: Rollout
    acks: AckOutbox
    node_alarms: Alarms
    beats: BeatWatch = field(default_factory=BeatWatch)
    _newest: bytes | None = None
    _came: asyncio.Event = field(default_factory=asyncio.Event)

    def handle(self, subject: str, payload: bytes) -> None:
        """A message of the mirrored stream."""
        if subject == subjects.config_beat(self.region):
            self.beats.hear(payload)
        elif subject == subjects.bundle(self.region):
            self._newest = payload
            self._came.set()

    async def run(self) -> None:
        """Apply what comes, one after the other."""
        while True:
            await self._came.wait()
            self._came.clear()
            payload, self._newest = self._newest, None
            if payload is not None and not await self.apply(payload):
                await self._retry(payload)

    async def apply(self, payload: bytes) -> bool:
        """Apply one message, or refuse it and say why; False where another try may help."""
        try:
            if await asyncio.to_thread(self._is_current, payload):
                self.rollout.begin()
                return True
            bundle = await asyncio.to_thread(self._install, payload)
        except RefusedError as error:
            self._refuse(payload, error)
            return error.refusal != uplink_pb2.REFUSAL_NO_SPACE
        log.info("bundle_current", bundle=bundle.version, documents=len(bundle.documents))
        self.node_alarms.clear(AlarmCode.CONFIG_REFUSED)
        self.rollout.begin()
        await asyncio.to_thread(self.folder.prune)
        return True

    async def _retry(self, payload: bytes) -> None:
        """Try the same message again later, unless a newer one comes first."""
        try:
            async with asyncio.timeout(_RETRY_AFTER_S):
                await self._came.wait()
        except TimeoutError:
            self._newest = self._newest or payload
            self._came.set()

    def _is_current(self, payload: bytes) -> bool:
        """Whether this is the very bundle that is current: a consumer made anew starts with it."""
        current = self.folder.current()
        try:
            return current > 0 and self.folder.message(current) == payload
        except OSError:
            return False

    def _running(self) -> int:
        """The version that a newer one must exceed; one less where the current one is damaged and may come again."""
        current = self.folder.current()
        try:
            is_sound = self.reader.open(self.folder.message(current), newer_than=current - 1).version == current
        except (OSError, RefusedError):
            is_sound = False
        return current if is_sound else max(current - 1, 0)

    def _install(self, payload: bytes) -> CheckedBundle:
        bundle = self.reader.open(payload, newer_than=self._running())
        known = self.rollout.refused.get(bundle.version)
        if known is not None:
            raise known
        try:
            with self.folder.unpacked(bundle) as unpacked:
                check_documents(unpacked)
                self.folder.adopt(unpacked, bundle.version)
            self.folder.activate(bundle.version)
        except OSError as error:
            is_full = error.errno in {errno.ENOSPC, errno.EDQUOT}
            text = f"the bundle could not be written ({errno.errorcode.get(error.errno or 0, '?')})"
            refusal = uplink_pb2.REFUSAL_NO_SPACE if is_full else uplink_pb2.REFUSAL_INCOMPLETE
            raise RefusedError(refusal, text) from error
        return bundle

    def _refuse(self, payload: bytes, error: RefusedError) -> None:
        version = _claimed_version(payload)
        log.error("bundle_refused", bundle=version, refusal=uplink_pb2.Refusal.Name(error.refusal))
        self.node_alarms.raise_(AlarmCode.CONFIG_REFUSED)
        self.acks.bundle(version, error)


def _claimed_version(payload: bytes) -> int:
    """The version a message says it has, 0 where it says none; not to be believed, only to be named in a refusal."""
    try:
        return int(BundleManifest.FromString(BundleMessage.FromString(payload).manifest.body).version)
    except DecodeError:
        return 0
