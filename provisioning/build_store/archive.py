"""Archives that come out the same for the same files: sorted, one time stamp, owners by number."""

import hashlib
import tempfile
from collections.abc import Sequence
from pathlib import Path

from provisioning.build_store.commands import run

ARCHIVE_TIMEOUT_S = 600.0
_PIECE_BYTES = 1 << 20


def pack(directory: Path, target: Path, *names: str, epoch: int = 0) -> Path:
    """Write members of a directory (all by default) as a tar, owned by root. Raises BuildError."""
    return _tar(directory, target, names or (".",), ["--owner=0", "--group=0"], epoch)


def pack_root(root: Path, target: Path, *, emptied: Sequence[str] = (), epoch: int = 0) -> Path:
    """Write a Debian root as a zstd-compressed tar with its owners, capabilities and all; `emptied` files are without
    content there. Raises BuildError."""
    # Without atime, ctime and tar's process id in the headers, which differ at every run.
    options = ["--format=posix", "--pax-option=exthdr.name=%d/PaxHeaders/%f,delete=atime,delete=ctime"]
    options += ["--xattrs", "--xattrs-include=*", "--zstd", *(f"--exclude=./{name}" for name in emptied)]
    with tempfile.TemporaryDirectory(dir=target.parent) as scratch:
        for name in emptied:
            path = Path(scratch) / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.touch(mode=0o644)
        # Written without the dot, so that what keeps the root's own files out lets these in.
        return _tar(root, target, (".", f"--directory={scratch}", *emptied), options, epoch)


def sha256_of(path: Path) -> str:
    """Hash a file without reading it whole into memory."""
    digest = hashlib.sha256()
    with path.open("rb") as stream:
        while piece := stream.read(_PIECE_BYTES):
            digest.update(piece)
    return digest.hexdigest()


def _tar(directory: Path, target: Path, names: Sequence[str], options: Sequence[str], epoch: int) -> Path:
    command = ["tar", "--create", "--file", str(target), "--directory", str(directory), "--sort=name"]
    command += ["--numeric-owner", f"--mtime=@{epoch}", *options, *names]
    run(command, timeout_s=ARCHIVE_TIMEOUT_S, environment={"ZSTD_CLEVEL": "6", "ZSTD_NBTHREADS": "0"})
    return target
