"""Tells when names in a folder change: inotify, and a look every second anyway, so that a lost event costs no more."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import structlog
from watchfiles import awatch

log = structlog.get_logger(__name__)

LOOK_EVERY_S = 1.0
# What is watched here changes by one rename: there is no burst of events to wait out.
_SETTLE_MS = 20


async def changes(folder: Path, *, ending: str) -> AsyncIterator[None]:
    """Yield when a name with this ending changes, and every second; without inotify, every second only."""
    try:
        async for _ in awatch(
            folder,
            watch_filter=lambda _, path: path.endswith(ending),
            debounce=10 * _SETTLE_MS,
            step=_SETTLE_MS,
            rust_timeout=round(LOOK_EVERY_S * 1000),
            yield_on_timeout=True,
            recursive=False,
        ):
            yield
    except (OSError, RuntimeError):
        # The machine is out of watches, or the folder was replaced.
        log.exception("folder_not_watched", folder=folder.name)
    while True:
        await asyncio.sleep(LOOK_EVERY_S)
        yield
