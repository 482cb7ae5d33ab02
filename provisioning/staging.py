"""A folder that is whole or not there: made under another name beside its own, and renamed in one step."""

import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def staged(target: Path, whole: str) -> Iterator[Path]:
    """An empty folder that becomes `target` when the block ends without an error, and is gone otherwise.

    Somebody else may have made `target` meanwhile: theirs is as good as ours if the file `whole` is in it. Raises
    OSError if it is not.
    """
    target.parent.mkdir(parents=True, exist_ok=True)
    staging = Path(tempfile.mkdtemp(prefix=f".{target.name}-", dir=target.parent))
    try:
        yield staging
        try:
            staging.rename(target)
        except OSError:
            if not (target / whole).is_file():
                raise
    finally:
        if staging.exists():
            shutil.rmtree(staging)
