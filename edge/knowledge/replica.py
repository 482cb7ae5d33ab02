"""The node's copy of each tenant's knowledge: snapshots are swapped in whole, deltas applied in one transaction.

Theory of operation. `<tenant>.db` is a symbolic link to the data file that runs; SQLite follows it, so that each data
file has a write-ahead log of its own and a swap never meets a foreign one. A snapshot is unpacked and indexed in a file
of its own, checked, synced, and becomes the running one by renaming a link over the old link. A delta is one
transaction on the running file. Whatever fails in between leaves what ran; left-over files go at the next apply.

Readers keep the file that they have open until they look at the link again (`edge/knowledge/base.py`). One process
writes: the sync agent. Signatures were verified before; everything else is checked here.
"""

import contextlib
import errno
import hashlib
import os
import secrets
from collections.abc import Iterator
from pathlib import Path

import apsw
import structlog
import zstandard
from google.protobuf.message import DecodeError

from contract.downlink_pb2 import DeltaContent, KnowledgeManifest
from contract.names import is_name
from contract.uplink_pb2 import Refusal
from edge.knowledge import database, snapshot
from edge.knowledge.database import AppliedVersion
from edge.knowledge.errors import KnowledgeDamagedError, KnowledgeRefusedError

log = structlog.get_logger(__name__)

BUSY_TIMEOUT_MS = 2000
# What shows that the file itself is bad; everything else may pass, and the file stays.
_DAMAGE = (apsw.CorruptError, apsw.NotADBError, apsw.SQLError)
# Nothing that the hub makes is larger.
LARGEST_DELTA_BYTES = 256 * 2**20
_DIGEST_BYTES = 32


class KnowledgeReplica:
    """The replicas in a folder. Blocking: use a thread in a service, one at a time."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory

    def tenants(self) -> tuple[str, ...]:
        """Whose knowledge is here."""
        return tuple(sorted(path.stem for path in self._directory.glob("*.db") if is_name(path.stem)))

    def version(self, tenant: str) -> AppliedVersion | None:
        """Return what runs, None if the tenant has none here.

        Raises KnowledgeDamagedError, having set it aside, and KnowledgeRefusedError where it cannot be read just now.
        """
        path = link_path(self._directory, tenant)
        if not path.exists():
            return None
        try:
            with _refusing(), contextlib.closing(open_reader(path)) as connection:
                return database.applied_version(connection)
        except _DAMAGE as error:
            raise self._set_aside(tenant, str(error)) from error

    def examine(self) -> tuple[KnowledgeDamagedError, ...]:
        """Read every replica whole, as a node does when it starts, and bring it up to the form of this release.

        Returns what was damaged and therefore set aside; these tenants need a snapshot again. What cannot be read just
        now, for want of disk for example, stays.
        """
        damaged: list[KnowledgeDamagedError] = []
        for tenant in self.tenants():
            try:
                self._tidy(tenant)
                problem = self._problem(tenant)
            except (*_DAMAGE, DecodeError, ValueError) as error:
                problem = str(error) or type(error).__name__
            except (apsw.Error, KnowledgeRefusedError, OSError) as error:
                log.warning("knowledge_not_examined", tenant=tenant, detail=type(error).__name__)
                continue
            if problem is not None:
                damaged.append(self._set_aside(tenant, problem))
        return tuple(damaged)

    def apply_snapshot(self, manifest: KnowledgeManifest, file: Path, *, towards: int = 0) -> None:
        """Replace a tenant's knowledge by the zstd file of a snapshot. Raises KnowledgeRefusedError.

        `towards` is where the deltas lead that the caller holds, verified, to apply next: a replica that was set aside
        may come back by an older snapshot if these bring it to where it was.
        """
        self._check_newer(manifest, towards)
        self._tidy(manifest.tenant)
        target = self._directory / f"{manifest.tenant}.{manifest.version}-{secrets.token_hex(4)}.data"
        unpacked = target.with_suffix(".unpacked")
        with _refusing(), _removing(unpacked):
            self._directory.mkdir(parents=True, exist_ok=True)
            snapshot.unpack(manifest, file, unpacked)
            with _removing(target, unless_linked_by=link_path(self._directory, manifest.tenant)):
                snapshot.index(manifest, unpacked, target)
                self._swap(manifest, target)
        self._tidy(manifest.tenant)
        log.info("knowledge_snapshot_applied", tenant=manifest.tenant, version=manifest.version, items=manifest.items)

    def apply_delta(self, manifest: KnowledgeManifest, content: bytes) -> None:
        """Change a tenant's knowledge by a delta, zstd as received.

        Raises KnowledgeRefusedError, or KnowledgeDamagedError when the replica itself turns out to be damaged.
        """
        running = self._check_newer(manifest)
        if running is None or not (running.version == manifest.delta.version == manifest.version - 1):
            have = running.version if running is not None else "none"
            raise KnowledgeRefusedError(
                Refusal.REFUSAL_GAP, f"{manifest.tenant}: delta {manifest.version} does not follow {have}"
            )
        _check_digest(manifest.tenant, content, manifest.content_bytes, manifest.content_sha256)
        delta = _delta_content(manifest.tenant, content)
        path = link_path(self._directory, manifest.tenant)
        try:
            with _refusing(), contextlib.closing(_open_writer(path)) as connection:
                self._note_newest(manifest)
                _in_transaction(connection, manifest, delta)
        except (apsw.CorruptError, apsw.NotADBError) as error:
            raise self._set_aside(manifest.tenant, str(error)) from error
        log.info(
            "knowledge_delta_applied",
            tenant=manifest.tenant,
            version=manifest.version,
            upserts=len(delta.upserts),
            removals=len(delta.removals),
        )

    def remove(self, tenant: str) -> None:
        """Leave nothing of a tenant's knowledge but the number of its newest version, below which nothing may come
        back. Who has the file open reads on until it looks again."""
        link_path(self._directory, tenant).unlink(missing_ok=True)
        self._tidy(tenant)
        (self._directory / f"{tenant}.damaged").unlink(missing_ok=True)
        if self._directory.exists():
            snapshot.sync(self._directory)

    def _check_newer(self, manifest: KnowledgeManifest, towards: int = 0) -> AppliedVersion | None:
        """Refuse what is no manifest of a tenant and what is not newer than what runs, or ever ran."""
        tenant = manifest.tenant
        if not is_name(tenant) or manifest.version < 1 or len(manifest.content_sha256) != _DIGEST_BYTES:
            raise KnowledgeRefusedError(Refusal.REFUSAL_MALFORMED, "the manifest names no tenant, version or digest")
        try:
            running = self.version(tenant)
        except KnowledgeDamagedError:
            running = None
        # What was set aside as damaged may come again, but nothing older: an attacker could have damaged it.
        least = running.version + 1 if running is not None else self._newest_noted(tenant)
        reaches = manifest.version if running is not None else max(manifest.version, towards)
        if reaches < least:
            raise KnowledgeRefusedError(
                Refusal.REFUSAL_REPLAYED, f"{tenant}: version {manifest.version} is not newer than {least - 1}"
            )
        return running

    def _swap(self, manifest: KnowledgeManifest, target: Path) -> None:
        self._note_newest(manifest)
        link = link_path(self._directory, manifest.tenant)
        fresh = link.with_suffix(".link")
        fresh.unlink(missing_ok=True)
        fresh.symlink_to(target.name)
        fresh.rename(link)
        snapshot.sync(self._directory)

    def _note_newest(self, manifest: KnowledgeManifest) -> None:
        """Remember the newest version apart from the data, so that damage does not open the way for a downgrade."""
        if manifest.version <= self._newest_noted(manifest.tenant):
            return
        path = self._directory / f"{manifest.tenant}.newest"
        partial = path.with_suffix(".newest-partial")
        with partial.open("w", encoding="ascii") as stream:
            stream.write(str(manifest.version))
            stream.flush()
            os.fsync(stream.fileno())
        partial.rename(path)
        snapshot.sync(self._directory)

    def _newest_noted(self, tenant: str) -> int:
        path = self._directory / f"{tenant}.newest"
        try:
            return int(path.read_text(encoding="ascii"))
        except (OSError, ValueError):
            return 0

    def _problem(self, tenant: str) -> str | None:
        path = link_path(self._directory, tenant)
        with contextlib.closing(_open_writer(path)) as connection:
            problem = database.problem_in(connection)
            if problem is None and _index_format(connection) != database.INDEX_FORMAT:
                self._derive_anew(tenant, connection)
            return problem

    def _derive_anew(self, tenant: str, old: apsw.Connection) -> None:
        """Copy the items of an earlier release's file into one of this release."""
        running = database.applied_version(old)
        target = self._directory / f"{tenant}.{running.version}-{secrets.token_hex(4)}.data"
        with _refusing(), _removing(target, unless_linked_by=link_path(self._directory, tenant)):
            snapshot.fill(target, running, database.stored_items(old))
            manifest = KnowledgeManifest(tenant=tenant, version=running.version)
            self._swap(manifest, target)
        log.info("knowledge_index_derived", tenant=tenant, version=running.version)

    def _set_aside(self, tenant: str, problem: str) -> KnowledgeDamagedError:
        path = link_path(self._directory, tenant)
        data = self._directory / (_linked_name(path) or path.name)
        if data.exists():
            data.rename(self._directory / f"{tenant}.damaged")
        for suffix in ("-wal", "-shm"):
            data.with_name(data.name + suffix).unlink(missing_ok=True)
        path.unlink(missing_ok=True)
        log.error("knowledge_damaged", tenant=tenant)
        return KnowledgeDamagedError(tenant, problem)

    def _tidy(self, tenant: str) -> None:
        """Remove files that nothing points at: of a version before, or left by a crash."""
        running = _linked_name(link_path(self._directory, tenant))
        for pattern in (f"{tenant}.*.data*", f"{tenant}.*.unpacked*", f"{tenant}.link"):
            for path in self._directory.glob(pattern):
                # With its journals.
                if running is None or not path.name.startswith(running):
                    path.unlink(missing_ok=True)


def link_path(directory: Path, tenant: str) -> Path:
    """Where a tenant's replica is opened."""
    return directory.absolute() / f"{tenant}.db"


def _linked_name(link: Path) -> str | None:
    """Return the name of the file in the same folder that a link points at, None if it is no link."""
    return link.readlink().name if link.is_symlink() else None


def open_reader(path: Path) -> apsw.Connection:
    """Open a replica for reading only. Raises apsw.Error."""
    connection = apsw.Connection(str(path), flags=apsw.SQLITE_OPEN_READONLY)
    connection.set_busy_timeout(BUSY_TIMEOUT_MS)
    return connection


def _open_writer(path: Path) -> apsw.Connection:
    connection = apsw.Connection(str(path))
    connection.set_busy_timeout(BUSY_TIMEOUT_MS)
    # FULL: what was acknowledged to the hub survives a power cut.
    connection.execute("PRAGMA journal_mode = WAL")
    connection.execute("PRAGMA synchronous = FULL")
    return connection


def _index_format(connection: apsw.Connection) -> int:
    return int(str(connection.execute("SELECT index_format FROM knowledge").get))


def _check_digest(tenant: str, content: bytes, size: int, digest: bytes) -> None:
    if len(content) != size or hashlib.sha256(content).digest() != digest:
        raise KnowledgeRefusedError(Refusal.REFUSAL_DIGEST, f"{tenant}: the delta is not what was signed")


def _delta_content(tenant: str, content: bytes) -> DeltaContent:
    try:
        with zstandard.ZstdDecompressor().stream_reader(content) as reader:
            plain = reader.read(LARGEST_DELTA_BYTES)
        return DeltaContent.FromString(plain)
    except (zstandard.ZstdError, DecodeError) as error:
        raise KnowledgeRefusedError(Refusal.REFUSAL_MALFORMED, f"{tenant}: the delta cannot be read") from error


def _in_transaction(connection: apsw.Connection, manifest: KnowledgeManifest, delta: DeltaContent) -> None:
    connection.execute("BEGIN IMMEDIATE")
    try:
        _apply(connection, manifest, delta)
        connection.execute("COMMIT")
    except BaseException:
        if connection.in_transaction:  # a full disk has ended it already
            connection.execute("ROLLBACK")
        raise


def _apply(connection: apsw.Connection, manifest: KnowledgeManifest, delta: DeltaContent) -> None:
    problem = database.problem_with(delta.upserts, database.dimensions_of(connection))
    if problem is not None:
        raise KnowledgeRefusedError(Refusal.REFUSAL_MALFORMED, f"{manifest.tenant}: {problem}")
    writer = database.Writer(connection, manifest.version)
    for key in delta.removals:
        if not writer.remove(key.source, key.id):
            message = f"{manifest.tenant}: the delta removes {key.source}/{key.id}, which is not known"
            raise KnowledgeRefusedError(Refusal.REFUSAL_MALFORMED, message)
    for item in delta.upserts:
        writer.put(item)
    writer.flush()
    count = int(str(connection.execute("SELECT count(*) FROM items").get))
    if count != manifest.items:
        text = f"{manifest.tenant}: {count} items after the delta, {manifest.items} were announced"
        raise KnowledgeRefusedError(Refusal.REFUSAL_MALFORMED, text)
    connection.execute(
        "UPDATE knowledge SET version = ?, created_at_ms = ?, items = ?, manifest_sha256 = ?",
        (manifest.version, manifest.created_at_ms, manifest.items, snapshot.manifest_digest(manifest)),
    )


@contextlib.contextmanager
def _refusing() -> Iterator[None]:
    """Turn what the disk says into a refusal, and a file that another has locked too."""
    try:
        yield
    except (apsw.FullError, apsw.IOError, apsw.CantOpenError, apsw.ReadOnlyError, apsw.BusyError) as error:
        raise _no_space(str(error)) from error
    except OSError as error:
        if error.errno not in {errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EIO, errno.EFBIG}:
            raise
        raise _no_space(str(error.strerror)) from error


def _no_space(message: str) -> KnowledgeRefusedError:
    hint = "Make room on the node's disk; the version that runs stays."
    return KnowledgeRefusedError(Refusal.REFUSAL_NO_SPACE, f"the replica cannot be used: {message}", hint=hint)


@contextlib.contextmanager
def _removing(path: Path, *, unless_linked_by: Path | None = None) -> Iterator[None]:
    """Remove a file and its journals at the end, unless it runs by then."""
    try:
        yield
    finally:
        if unless_linked_by is None or _linked_name(unless_linked_by) != path.name:
            for suffix in ("", "-journal", "-wal", "-shm"):
                path.with_name(path.name + suffix).unlink(missing_ok=True)
