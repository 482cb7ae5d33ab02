"""How late the event loop runs its timers: it shows a node's limit earlier than CPU load does."""

import asyncio
from collections import deque
from types import TracebackType
from typing import Self

from prometheus_client import Gauge

INTERVAL_S = 0.1  # ten samples a second cost nothing and see every stall that a caller could hear
WINDOW_SAMPLES = 300  # half a minute: recent enough for admission, long enough for a percentile


class EventLoopLag:
    """Samples the running loop's lag into a gauge while the context is open."""

    def __init__(self, p95_s: Gauge, *, interval_s: float = INTERVAL_S) -> None:
        self._gauge = p95_s
        self._interval_s = interval_s
        self._lags_s: deque[float] = deque(maxlen=WINDOW_SAMPLES)
        self._group = asyncio.TaskGroup()
        self._task: asyncio.Task[None] | None = None

    @property
    def p95_s(self) -> float:
        """The 95th percentile of the last half minute; 0 before the first sample."""
        lags_s = sorted(self._lags_s)
        return lags_s[min(len(lags_s) - 1, len(lags_s) * 95 // 100)] if lags_s else 0.0

    async def __aenter__(self) -> Self:
        await self._group.__aenter__()
        self._task = self._group.create_task(self._sample(), name="event-loop-lag")
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None
    ) -> None:
        if self._task is not None:
            self._task.cancel()
        await self._group.__aexit__(kind, error, tb)

    async def _sample(self) -> None:
        loop = asyncio.get_running_loop()
        while True:
            due = loop.time() + self._interval_s
            await asyncio.sleep(self._interval_s)
            self._lags_s.append(max(0.0, loop.time() - due))
            self._gauge.set(self.p95_s)
