"""Who may open what lies in the node's folders. Services run as different users; a folder that two of them need is
given to a group (setgid, writable by the group), and what is made in it must be the group's too. Any other folder's
files are its owner's alone. Never anybody else's: they hold what callers say.
"""

import stat
from pathlib import Path

OWNER_ONLY = 0o600
OWNER_AND_GROUP = 0o660


def file_mode(folder: Path) -> int:
    """The mode of a file in this folder. Raises OSError."""
    mode = folder.stat().st_mode
    return OWNER_AND_GROUP if mode & stat.S_ISGID and mode & stat.S_IWGRP else OWNER_ONLY


def make_protected(path: Path) -> None:
    """Make a file where there is none, with the mode that it is to have: before SQLite opens it, whose files beside it
    take theirs from it. Raises OSError."""
    path.touch(mode=file_mode(path.parent))
    protect(path)


def protect(path: Path) -> None:
    """Give a file its mode, where it has another: another user's has it already. Raises OSError."""
    wanted = file_mode(path.parent)
    if stat.S_IMODE(path.stat().st_mode) != wanted:
        path.chmod(wanted)
