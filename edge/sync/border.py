"""Counts who was turned away at the region's border: reads the log of this node's nats-server as it grows.

The server closes or ignores what is not allowed and says so in its log only; nothing there may go unseen. Knows nothing
of what was tried: the parser drops it (contract/nats_log.py).
"""

from collections import Counter
from collections.abc import Callable
from pathlib import Path

from watchfiles import awatch

from contract.nats_log import RefusalKind, refusal_of
from edge.sync.log_reader import LogReader

LOOK_EVERY_MS = 1000
SETTLE_MS = 20


class BorderWatch:
    """Follows one log file; `on_refusal` is called once for each attempt that was refused since it began, `on_skipped`
    with the bytes of the log that were gone before they could be read."""

    def __init__(
        self,
        server_log: Path,
        on_refusal: Callable[[RefusalKind], None],
        on_skipped: Callable[[int], None] = lambda _: None,
    ) -> None:
        self._path = server_log
        self._on_refusal = on_refusal
        self._reader = LogReader(server_log, self._take, on_skipped)
        self.refused: Counter[RefusalKind] = Counter()

    @property
    def total(self) -> int:
        """Attempts refused since the watch began."""
        return self.refused.total()

    async def run(self) -> None:
        """Follow the log until cancelled; what stands in it already is not counted."""
        self._reader.begin_at_end()
        try:
            async for _ in awatch(
                self._path.parent,
                watch_filter=lambda _, path: Path(path).name.startswith(self._path.name),
                debounce=10 * SETTLE_MS,
                step=SETTLE_MS,
                rust_timeout=LOOK_EVERY_MS,
                yield_on_timeout=True,
                recursive=False,
            ):
                self.look()
        finally:
            self.close()

    def look(self) -> None:
        """Count what was written since the last look."""
        self._reader.look()

    def close(self) -> None:
        """Let go of the file; the next look begins at the start of the log."""
        self._reader.close()

    def _take(self, line: str) -> None:
        refusal = refusal_of(line)
        if refusal is not None:
            self.refused[refusal.kind] += 1
            self._on_refusal(refusal.kind)
