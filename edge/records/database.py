"""Opens a tenant's databases and brings their schema up to date. Owns paths, pragmas, migrations; knows no rows.

In the records folder are `<tenant>.sqlite3`, and in `keys/` beside it (or where the settings say) the databases of
their keys under the same names, and the master key.

Litestream replicates these files. Its rules: WAL mode, a busy timeout, no VACUUM, and no checkpoint by us, neither
automatic nor when the last connection closes: both make it lose its place in the WAL (it names them as causes of
missing LTX files). So checkpoints are Litestream's, and it keeps the WAL near its `min-checkpoint-page-count`. Whether
it is there is seen from its folder beside the file, at each commit; where it is not, we checkpoint at
`CHECKPOINT_PAGES`. Where it was but is dead, we do so at `ABANDONED_PAGES`: it then takes a whole copy when it wakes,
and the disk does not fill up.
"""

import contextlib
import fcntl
import os
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from types import TracebackType

import apsw

from edge.records.errors import InvalidTenantError, SchemaTooNewError
from edge.shared_folder import make_protected

TENANT_NAME = re.compile(r"[a-z0-9][a-z0-9-]{0,62}")
MIGRATION_NAME = re.compile(r"(\d{4})_[a-z]+(?:_[a-z]+)+\.sql")
Cell = None | int | float | bytes | str

KEYS_FOLDER = "keys"
MASTER_KEY_NAME = "master.key"
CHECKPOINT_PAGES = 1000  # SQLite's own default: a WAL of about 4 MB
ABANDONED_PAGES = 50_000  # twice where Litestream itself would truncate: about 200 MB


@dataclass(frozen=True, slots=True, kw_only=True)
class Migration:
    """One step of the schema."""

    version: int
    name: str
    sql: str


@dataclass(frozen=True, slots=True, kw_only=True)
class DatabaseSettings:
    """How a database is opened. `busy_timeout_s` is how long a write waits for another worker's. `is_replicated`:
    Litestream will come, so we do not checkpoint even before its folder is seen.

    `keys_directory`: the key databases, in `keys/` of the records folder when None. `master_key_file`: what wraps
    the keys; when None it is `master.key` beside them and made at first use, which keeps replicas and backups dark but
    does not help against a stolen disk.
    """

    busy_timeout_s: float = 2.0
    is_replicated: bool = False
    keys_directory: Path | None = None
    master_key_file: Path | None = None


def database_path(directory: Path, tenant: str) -> Path:
    """Where a tenant's records are; raises InvalidTenantError for a name that is not a plain file name."""
    if not TENANT_NAME.fullmatch(tenant):
        raise InvalidTenantError(f"{tenant!r} is not a tenant name")
    return directory / f"{tenant}.sqlite3"


def key_database_path(directory: Path, tenant: str, settings: DatabaseSettings) -> Path:
    """Where the keys of a tenant's data subjects are. Raises InvalidTenantError."""
    return database_path(settings.keys_directory or directory / KEYS_FOLDER, tenant)


def master_key_path(directory: Path, settings: DatabaseSettings) -> Path:
    """Where the node's master keys are."""
    return settings.master_key_file or (settings.keys_directory or directory / KEYS_FOLDER) / MASTER_KEY_NAME


def tenants_in(directory: Path) -> tuple[str, ...]:
    """Whose records are in a folder."""
    return tuple(sorted(path.stem for path in directory.glob("*.sqlite3") if TENANT_NAME.fullmatch(path.stem)))


class Immediate:
    """BEGIN IMMEDIATE at the start of the block, COMMIT or ROLLBACK at its end."""

    def __init__(self, connection: apsw.Connection) -> None:
        self._connection = connection

    def __enter__(self) -> None:
        self._connection.execute("BEGIN IMMEDIATE")

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> None:
        if self._connection.in_transaction:  # a full disk has ended it already
            self._connection.execute("COMMIT" if kind is None else "ROLLBACK")


def load_migrations(folder_name: str = "migrations") -> tuple[Migration, ...]:
    """All steps, oldest first, numbered 1, 2, 3 without a gap."""
    folder = resources.files("edge.records") / folder_name
    found = sorted((entry.name, entry.read_text(encoding="utf-8")) for entry in folder.iterdir())
    steps = []
    for expected, (name, sql) in enumerate(((n, s) for n, s in found if n.endswith(".sql")), start=1):
        match = MIGRATION_NAME.fullmatch(name)
        if match is None or int(match.group(1)) != expected:
            raise ValueError(f"{name}: migrations are named NNNN_verb_noun.sql, the next number is {expected:04d}")
        steps.append(Migration(version=expected, name=name.removesuffix(".sql"), sql=sql))
    return tuple(steps)


def open_database(
    path: Path,
    settings: DatabaseSettings,
    migrations: tuple[Migration, ...],
    prepare: Callable[[apsw.Connection], None] = lambda _: None,
) -> apsw.Connection:
    """Open for writing and migrate; `prepare` gives the connection what migrations need. Raises apsw.Error or
    SchemaTooNewError."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with _sole_opener(path.parent):
        make_protected(path)
        connection = apsw.Connection(str(path))
        try:
            _configure(connection, settings)
            prepare(connection)
            if migrate(connection, migrations) and not is_litestreams(path):
                truncate_wal(connection)  # what a step sealed or removed stands in the WAL as it was
        except BaseException:
            connection.close()
            raise
    return connection


def open_reader(path: Path, settings: DatabaseSettings) -> apsw.Connection:
    """Open an existing database for reading only."""
    connection = apsw.Connection(str(path), flags=apsw.SQLITE_OPEN_READONLY)
    connection.set_busy_timeout(round(settings.busy_timeout_s * 1000))
    return connection


def migrate(connection: apsw.Connection, migrations: tuple[Migration, ...]) -> bool:
    """Apply what is missing, and whether anything was; each step and its version row are one transaction, so a crash
    leaves whole steps."""
    is_changed = False
    while True:
        with Immediate(connection):
            current = _version(connection)
            _refuse_newer(connection, current, len(migrations))
            if current < len(migrations):
                _apply(connection, migrations[current])
                is_changed = True
        if current >= len(migrations) - 1:
            return is_changed


def truncate_wal(connection: apsw.Connection) -> None:
    """Checkpoint and empty the WAL; only where there is no Litestream. Does nothing while another connection reads."""
    with contextlib.suppress(apsw.BusyError):
        connection.wal_checkpoint(mode=apsw.SQLITE_CHECKPOINT_TRUNCATE)


@contextlib.contextmanager
def _sole_opener(directory: Path) -> Iterator[None]:
    """One worker at a time: changing a new file to WAL fails with "locked" at once, without the busy timeout."""
    descriptor = os.open(directory, os.O_RDONLY | os.O_CLOEXEC)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)


def _configure(connection: apsw.Connection, settings: DatabaseSettings) -> None:
    connection.set_busy_timeout(round(settings.busy_timeout_s * 1000))
    connection.execute("PRAGMA journal_mode = WAL")
    # FULL, not NORMAL: a turn that was acknowledged survives a power cut. Group commit pays for the fsync.
    connection.execute("PRAGMA synchronous = FULL")
    connection.execute("PRAGMA foreign_keys = ON")
    # What is deleted (plain content by a migration, a destroyed key) is overwritten in the file.
    connection.execute("PRAGMA secure_delete = ON")
    connection.config(apsw.SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, 1)
    # Instead of SQLite's automatic checkpoint.
    connection.set_wal_hook(_checkpoints(settings))


def litestream_folder(path: Path) -> Path:
    """Where Litestream keeps its place for a database."""
    return path.with_name(f".{path.name}-litestream")


def is_litestreams(path: Path) -> bool:
    """Whether Litestream has taken a database into its care."""
    return litestream_folder(path).exists()


def _checkpoints(settings: DatabaseSettings) -> Callable[[apsw.Connection, str, int], int]:
    """What SQLite calls after each commit with the length of the WAL."""

    def after_commit(connection: apsw.Connection, name: str, pages: int) -> int:
        if pages >= CHECKPOINT_PAGES:
            is_left_to_it = settings.is_replicated or is_litestreams(Path(connection.filename))
            if pages >= ABANDONED_PAGES or not is_left_to_it:
                connection.wal_checkpoint(name, apsw.SQLITE_CHECKPOINT_PASSIVE)
        return apsw.SQLITE_OK

    return after_commit


def _version(connection: apsw.Connection) -> int:
    connection.execute(
        "CREATE TABLE IF NOT EXISTS schema_versions"
        " (version INTEGER PRIMARY KEY, name TEXT NOT NULL, applied_at TEXT NOT NULL) STRICT"
    )
    newest = connection.execute("SELECT coalesce(max(version), 0) FROM schema_versions").get
    return int(str(newest))


def _refuse_newer(connection: apsw.Connection, current: int, known: int) -> None:
    if current > known:
        raise SchemaTooNewError(f"{connection.filename}: it has schema {current}, this release knows {known}")


def _apply(connection: apsw.Connection, step: Migration) -> None:
    connection.execute(step.sql)
    connection.execute(
        "INSERT INTO schema_versions VALUES (?, ?, strftime('%Y-%m-%dT%H:%M:%fZ'))", (step.version, step.name)
    )
