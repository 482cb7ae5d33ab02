"""One drill of a region at a time: two together measure each other, and each puts back what the other took away."""

import fcntl
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from bench.drills.errors import DrillRefusedError


@contextmanager
def only_drill(directory: Path, region: str) -> Iterator[None]:
    """Be the only drill of a region that writes its reports here; the kernel lets go with the process.

    Raises DrillRefusedError where another one runs.
    """
    directory.mkdir(parents=True, exist_ok=True)
    with (directory / f".{region}.lock").open("w", encoding="utf-8") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise DrillRefusedError(
                f"another drill of {region} runs; wait for its end, or stop it (borough drill abort)"
            ) from None
        yield
