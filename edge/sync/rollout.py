"""A bundle on its way to the workers: acked once all of them run it, taken back when one refuses it."""

import time

import structlog

from contract import uplink_pb2
from contract.alarms import AlarmCode
from edge.sync.acks import AckOutbox
from edge.sync.alarms import Alarms
from edge.sync.errors import RefusedError
from edge.sync.folder import SyncFolder
from edge.sync.folder_watch import changes
from edge.sync.settings import SyncSection
from edge.sync.workers import WorkerState, living_workers

log = structlog.get_logger(__name__)

# A worker that starts loads its models before it shows itself.
_WORKERS_START_WITHIN_S = 60.0


class Rollout:
    """Watches the workers' state files. Without living workers a bundle counts as running as soon as it is current."""

    def __init__(self, folder: SyncFolder, acks: AckOutbox, node_alarms: Alarms, settings: SyncSection) -> None:
        self._folder = folder
        self._acks = acks
        self._alarms = node_alarms
        self._settings = settings
        self._began_at = time.monotonic()
        self._complete_since = self._began_at
        self._acked = 0
        self.running = 0
        self.refused: dict[int, RefusedError] = {}

    def begin(self) -> None:
        """Another bundle was made current, or the same one came again: its ack is due."""
        self._began_at = time.monotonic()
        self._acked = 0
        self.look()

    def look(self) -> None:
        """Compare the workers with the current bundle."""
        version, workers = self._folder.current(), living_workers(self._folder.running)
        self._check_number(workers)
        refusing = next((worker for worker in workers if version and worker.refused == version), None)
        if refusing is not None:
            # The first bundle of all has none before it: it stays, and was refused once.
            if version not in self.refused:
                self._take_back(version, refusing)
            return
        self.running = min((worker.bundle for worker in workers), default=version)
        is_settled = all(worker.bundle == version for worker in workers)
        is_late = time.monotonic() - self._began_at > self._settings.workers_within_s
        self._alarms.set(AlarmCode.WORKERS_BEHIND, is_raised=not is_settled and is_late)
        if is_settled and version and self._acked != version:
            self._acked = version
            self._acks.bundle(version)
            log.info("bundle_runs", bundle=version, workers=len(workers))

    async def run(self) -> None:
        """Look whenever a worker tells something, and every second."""
        self.look()
        async for _ in changes(self._folder.running, ending=".json"):
            self.look()

    def _check_number(self, workers: list[WorkerState]) -> None:
        now = time.monotonic()
        if len(workers) >= self._settings.workers_expected:
            self._complete_since = now
        is_short = now - self._complete_since > _WORKERS_START_WITHIN_S
        self._alarms.set(AlarmCode.WORKERS_MISSING, is_raised=is_short)

    def _take_back(self, version: int, worker: WorkerState) -> None:
        """Make the bundle before this one current again, so that a worker that starts gets one that can be served."""
        error = RefusedError(
            uplink_pb2.REFUSAL_DOCUMENT,
            f"worker {worker.name} cannot serve it",
            document_kind="Tenant" if worker.tenant else "",
            document_name=worker.tenant,
        )
        self.refused[version] = error
        self._alarms.raise_(AlarmCode.CONFIG_REFUSED)
        before = self._folder.before(version)
        log.error("bundle_taken_back", bundle=version, before=before, worker=worker.name, tenant=worker.tenant)
        if before:
            self._folder.activate(before)
            self._folder.remove(version)
        # The refusal is the newest word about this node; that the one before runs again is in its health.
        self._acked = before
        self._acks.bundle(version, error)
