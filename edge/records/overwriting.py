"""Makes sure that deleted bytes are gone from a database's files, its WAL included.

`secure_delete` overwrites them in the pages, but the pages of before stand in the WAL until it is written over. Alone,
a checkpoint that truncates it is enough. With Litestream, checkpoints are its own: we write the WAL full, so that
Litestream checkpoints and begins it anew, until the bytes are gone.
"""

import time
from collections.abc import Sequence
from pathlib import Path

import apsw

from edge.records.database import is_litestreams, truncate_wal

WITHIN_S = 20.0
AGAIN_AFTER_S = 0.5
# More than Litestream lets the WAL of a key database grow before it checkpoints (contract/litestream_config.py).
PAGES_AT_ONCE = 80


def overwrite(connection: apsw.Connection, secrets: Sequence[bytes]) -> bool:
    """Whether the bytes are gone from the files; blocks for up to `WITHIN_S`. Raises apsw.Error."""
    path = Path(connection.filename)
    deadline = time.monotonic() + WITHIN_S
    while _holds(path, secrets):
        if time.monotonic() > deadline:
            return False
        if is_litestreams(path):
            _fill_wal(connection)
        else:
            truncate_wal(connection)
        if _holds(path, secrets):
            time.sleep(AGAIN_AFTER_S)  # Litestream's next look, or the end of another connection's read
    return True


def _holds(path: Path, secrets: Sequence[bytes]) -> bool:
    files = [path, path.with_name(path.name + "-wal")]
    content = [file.read_bytes() for file in files if file.exists()]
    return any(secret in held for secret in secrets for held in content)


def _fill_wal(connection: apsw.Connection) -> None:
    """Each commit of a header field is one page of WAL."""
    version = int(str(connection.pragma("user_version")))
    for number in range(1, PAGES_AT_ONCE + 1):
        connection.execute(f"PRAGMA user_version = {(version + number) % 1_000_000}")
