"""Which database an instance begins with: its own, if no other instance was active since, else the replica's.

Every database file has an id beside it. The id of the one that was last active stands in a bucket of the hub's
JetStream, next to the replica. An instance whose id stands there has the newest documents on its own disk. Any other
file is older, or holds what nobody else ever saw: it is set aside, and the replica takes its place.
"""

import asyncio
import os
import secrets
import shutil
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

import structlog
from nats.js import JetStreamContext
from nats.js.api import KeyValueConfig
from nats.js.errors import KeyNotFoundError

from contract.litestream_config import NatsAccess, ReplicatedDatabase, ReplicationPace, render
from contract.subjects import HUB_REPLICA_BUCKET, HUB_STATE_BUCKET
from controlplane.errors import ReplicaRestoreError

log = structlog.get_logger(__name__)

KEY = "database"
RESTORE_WITHIN_S = 600.0
_NO_REPLICA = ("no matching backup files", "bucket must be created")
_FILES = ("", "-wal", "-shm")


@dataclass(frozen=True, slots=True, kw_only=True)
class Replica:
    """The database file, and how Litestream reaches its replica."""

    path: Path
    program: Path
    nats: NatsAccess
    pace: ReplicationPace

    def config(self) -> str:
        """The content of litestream.yml."""
        database = ReplicatedDatabase(path=str(self.path), bucket=HUB_REPLICA_BUCKET)
        return render((database,), self.nats, self.pace, metrics_port=None)


async def take_over(replica: Replica, jetstream: JetStreamContext) -> bool:
    """Make the database file the newest there is, and this instance its owner; whether it came from the replica.

    Raises ReplicaRestoreError, TimeoutError and errors of nats-py.
    """
    bucket = await jetstream.create_key_value(KeyValueConfig(bucket=HUB_STATE_BUCKET, history=1))
    owner, revision = "", 0
    try:
        entry = await bucket.get(KEY)
        owner, revision = (entry.value or b"").decode(), entry.revision or 0
    except KeyNotFoundError:
        pass
    own = await asyncio.to_thread(_own_id, replica.path)
    is_own = replica.path.exists() and owner in ("", own)
    is_restored = False
    if not is_own:
        began = time.monotonic()
        is_restored = await _restore(replica)
        if is_restored:
            log.warning("hub_database_restored", took_s=round(time.monotonic() - began, 1))
        elif owner:
            log.error("hub_replica_missing", has_own=replica.path.exists())
    if owner != own:
        # An instance that was paused meanwhile must not say so of itself.
        await bucket.update(KEY, own.encode(), last=revision)
    return is_restored


async def _restore(replica: Replica) -> bool:
    """Put the replica's content in place of the file; False, and nothing done, if there is none."""
    restored = replica.path.with_name(f"{replica.path.name}.restored")
    await asyncio.to_thread(_remove, restored)
    if not await _fetch(replica, restored):
        return False
    await asyncio.to_thread(_put_in_place, restored, replica.path)
    return True


async def _fetch(replica: Replica, to: Path) -> bool:
    to.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as folder:
        config = Path(folder) / "litestream.yml"
        config.write_text(replica.config(), encoding="utf-8")
        process = await asyncio.create_subprocess_exec(
            replica.program, "restore", "-config", config, "-integrity-check", "full", "-o", to, replica.path,
            stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT,
        )  # fmt: skip
        try:
            async with asyncio.timeout(RESTORE_WITHIN_S):
                output, _ = await process.communicate()
        finally:
            if process.returncode is None:
                process.kill()
                await process.wait()
    if process.returncode == 0:
        return True
    text = output.decode(errors="replace").strip()
    if any(words in text for words in _NO_REPLICA):
        return False
    raise ReplicaRestoreError(text[-500:])


def _own_id(path: Path) -> str:
    """The id of the database file; made for one that has none."""
    file = path.with_name(f"{path.name}.id")
    try:
        return file.read_text(encoding="ascii")
    except FileNotFoundError:
        own = secrets.token_hex(16)
        path.parent.mkdir(parents=True, exist_ok=True)
        draft = file.with_suffix(".new")
        draft.write_text(own, encoding="ascii")
        draft.replace(file)
        return own


def _put_in_place(restored: Path, path: Path) -> None:
    """Rename; a file that is there already is kept beside it, for whoever misses something."""
    aside = f"aside-{time.time_ns() // 1_000_000}"
    for suffix in _FILES:
        own = path.with_name(path.name + suffix)
        if own.exists():
            own.rename(path.with_name(f"{path.name}.{aside}{suffix}"))
            log.warning("hub_database_set_aside", file=own.name)
    # Litestream's notes are about the file that was here.
    shutil.rmtree(path.with_name(f".{path.name}-litestream"), ignore_errors=True)
    restored.chmod(0o600)
    restored.rename(path)
    folder = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)


def _remove(path: Path) -> None:
    for suffix in (*_FILES, ".tmp", ".tmp-wal", ".tmp-shm"):
        path.with_name(path.name + suffix).unlink(missing_ok=True)
