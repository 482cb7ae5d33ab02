"""What the hub is to know about versions on this node: applied, or refused and why. Waits on disk while it is gone.

Only the newest ack of each subject (the bundle, each tenant's knowledge) matters, so each has one file and an older
one is overwritten: what waits is bounded by the number of tenants. What a full disk does not take waits in memory.
"""

import asyncio
import time
from collections.abc import Callable
from pathlib import Path

import structlog

from contract import uplink_pb2
from contract.uplink_guard import MAX_COUNT, check
from contract.uplink_pb2 import Ack
from edge.sync.errors import RefusedError
from edge.sync.folder import write_atomically

log = structlog.get_logger(__name__)


class AckOutbox:
    """Acks of this node, one file a subject."""

    def __init__(self, directory: Path, region: str, node: str, now_s: Callable[[], float] = time.time) -> None:
        self._directory = directory
        self._region = region
        self._node = node
        self._now_s = now_s
        self._unwritten: dict[Path, bytes] = {}
        self.is_filled = asyncio.Event()
        if any(directory.glob("*.pb")):
            self.is_filled.set()

    def bundle(self, version: int, refused: RefusedError | None = None) -> None:
        """Say that a bundle runs, or why it is refused."""
        self._put("bundle", Ack(subject=uplink_pb2.SUBJECT_BUNDLE, version=version), refused)

    def knowledge(self, tenant: str, version: int, refused: RefusedError | None = None) -> None:
        """Say that a tenant's knowledge is applied, or why it is refused."""
        ack = Ack(subject=uplink_pb2.SUBJECT_KNOWLEDGE, tenant=tenant, version=version)
        self._put(f"knowledge-{tenant}", ack, refused)

    def waiting(self) -> list[tuple[Path, bytes]]:
        """What the hub has not confirmed yet, oldest first."""
        files = sorted(self._directory.glob("*.pb"), key=lambda path: path.stat().st_mtime_ns)
        found = {path: path.read_bytes() for path in files}
        return list((found | self._unwritten).items())

    def confirm(self, path: Path, payload: bytes) -> None:
        """Forget an ack that the hub has, unless a newer one took its place meanwhile."""
        if self._unwritten.get(path, payload) != payload:
            return
        if self._unwritten.pop(path, None) is not None or path.read_bytes() == payload:
            path.unlink(missing_ok=True)

    def _put(self, name: str, ack: Ack, refused: RefusedError | None) -> None:
        ack.region, ack.node, ack.at_ms = self._region, self._node, round(self._now_s() * 1000)
        if refused is not None:
            ack.refusal = refused.refusal
            ack.document_kind, ack.document_name = refused.document_kind, refused.document_name
        if ack.version > MAX_COUNT:
            ack.version = 0  # what a forged message claimed
        if check(ack):
            ack.document_name = ""  # a name that the border does not let pass, such as one with a number in it
        path, payload = self._directory / f"{name}.pb", ack.SerializeToString()
        try:
            write_atomically(path, payload)
            self._unwritten.pop(path, None)
        except OSError as error:
            log.warning("ack_not_written", subject=name, version=ack.version, detail=type(error).__name__)
            self._unwritten[path] = payload
        self.is_filled.set()
