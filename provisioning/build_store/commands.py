"""Runs the programs of the build: bounded in time, with what they complained about in the error."""

import errno
import os
import shutil
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path

from provisioning.build_store.errors import BuildCommandError, BuildDownloadError, BuildError, BuildHostError

_TAIL_LINES = 12
_NETWORK_WORDS = (
    "temporary failure resolving",
    "could not resolve",
    "could not connect",
    "connection timed out",
    "unable to connect",
    "failed to establish a new connection",
    "network is unreachable",
)
# tar says the last when the disk fills within a block.
_DISK_WORDS = ("no space left on device", "you don't have enough free space", "wrote only")
# Where a package is asked for on Debian: the program's name is not always the package's.
_PACKAGE_OF = {"ssh-keygen": "openssh-client", "mkfs.ext4": "e2fsprogs", "mkfs.vfat": "dosfstools", "mcopy": "mtools"}


def need_programs(*programs: str) -> None:
    """Raises BuildHostError naming the package that brings what is missing."""
    missing = [program for program in programs if shutil.which(program) is None]
    if missing:
        packages = " ".join(_PACKAGE_OF.get(program, program) for program in missing)
        raise BuildHostError(f"missing on this machine: {', '.join(missing)}", hint=f"apt-get install {packages}")


def need_root(what: str) -> None:
    """Raises BuildHostError unless this process is root."""
    if os.geteuid() != 0:
        raise BuildHostError(f"{what} needs root", hint="run the command as root: sudo borough build ...")


def need_room(directory: Path, wanted_bytes: int) -> None:
    """Raises BuildHostError when the directory's disk has less room than this."""
    existing = next(path for path in (directory, *directory.parents) if path.exists())
    free = shutil.disk_usage(existing).free
    if free < wanted_bytes:
        raise BuildHostError(
            f"{existing} has {free / 2**30:.1f} GiB free and the build needs {wanted_bytes / 2**30:.1f} GiB",
            hint=f"free {(wanted_bytes - free) / 2**30:.1f} GiB there, or choose another disk with --out and --state",
        )


def run(
    command: Sequence[str],
    *,
    timeout_s: float,
    environment: Mapping[str, str] | None = None,
    directory: Path | None = None,
) -> str:
    """Return what the program printed. `environment` is added to this process's.

    Raises BuildHostError, BuildDownloadError or BuildCommandError.
    """
    try:
        done = subprocess.run(
            command,
            capture_output=True,
            text=True,
            errors="replace",
            timeout=timeout_s,
            check=False,
            cwd=directory,
            env={**os.environ, "LC_ALL": "C.UTF-8", **(environment or {})},
        )
    except subprocess.TimeoutExpired as error:
        raise BuildDownloadError(
            f"{command[0]} did not finish in {timeout_s:.0f} s",
            hint="check the line to the package mirrors, then run the same command again",
        ) from error
    except FileNotFoundError as error:
        raise BuildHostError(f"missing on this machine: {command[0]}", hint=f"apt-get install {command[0]}") from error
    if done.returncode != 0:
        raise failure(command[0], done.returncode, done.stderr or done.stdout)
    return done.stdout


def failure(program: str, status: int, complaint: str) -> BuildError:
    """Say what a failed program's words mean for the operator."""
    tail = "\n".join(complaint.strip().splitlines()[-_TAIL_LINES:])
    text = complaint.lower()
    if any(word in text for word in _DISK_WORDS):
        return BuildHostError(f"the disk is full, says {program}:\n{tail}", hint="free some GiB and run it again")
    if any(word in text for word in _NETWORK_WORDS):
        return BuildDownloadError(
            f"{program} could not reach its mirror or registry:\n{tail}",
            hint="check the network, the proxy, `pip config list` and /etc/apt/sources.list, then run it again",
        )
    return BuildCommandError(f"{program} failed with status {status}:\n{tail}")


def disk_is_full(error: OSError) -> bool:
    """Say whether this is the error of a disk without room."""
    return error.errno in {errno.ENOSPC, errno.EDQUOT}
