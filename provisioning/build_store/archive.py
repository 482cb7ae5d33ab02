"""Archives that come out the same for the same files: sorted, one time stamp, owners by number."""

import hashlib
from collections.abc import Sequence
from pathlib import Path

from provisioning.build_store.commands import run

ARCHIVE_TIMEOUT_S = 600.0
_PIECE_BYTES = 1 << 20


def pack(directory: Path, target: Path, *names: str, epoch: int = 0) -> Path:
    """Write members of a directory (all by default) as a tar, owned by root. Raises BuildError."""
    return _tar(directory, target, names or (".",), ["--owner=0", "--group=0"], epoch)


def pack_root(root: Path, target: Path, *, epoch: int = 0) -> Path:
    """Write a Debian root as a zstd-compressed tar with its owners, capabilities and all. Raises BuildError."""
    # Without atime, ctime and tar's process id in the headers, which differ at every run.
    headers = ["--format=posix", "--pax-option=exthdr.name=%d/PaxHeaders/%f,delete=atime,delete=ctime"]
    options = [*headers, "--xattrs", "--xattrs-include=*", "--zstd"]
    return _tar(root, target, (".",), options, epoch)


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
