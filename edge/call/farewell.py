"""The last word to a caller whom the stop of a node cuts off."""

import asyncio
from collections.abc import Awaitable
from dataclasses import dataclass, field

import structlog

from edge.call.ports import SAMPLE_RATE_HZ, MediaLeg

log = structlog.get_logger(__name__)

FAREWELL = "Sorry, I have to end this call. Please ring us again."
AT_MOST_S = 4.0
# The mark may come late; the node waits for us.
GRACE_S = 1.0
# Behind the words; the marks of replies are numbers.
MARK = "farewell"


@dataclass(slots=True, kw_only=True)
class Farewell:
    """`pcm` is int16 mono 16 kHz; what is longer than AT_MOST_S is cut."""

    pcm: bytes
    _heard: asyncio.Event = field(default_factory=asyncio.Event)

    async def say(self, leg: MediaLeg, silenced: Awaitable[None]) -> None:
        """Return once it was heard after `silenced`, or cannot be; never raises, and ends within its bounds."""
        pcm = self.pcm[: round(AT_MOST_S * SAMPLE_RATE_HZ) * 2]
        try:
            async with asyncio.timeout(len(pcm) / 2 / SAMPLE_RATE_HZ + GRACE_S):
                await silenced
                await leg.send(pcm)
                await leg.mark(MARK)
                await self._heard.wait()
        except Exception:
            log.warning("farewell_failed", exc_info=True)

    def reached(self, mark: str) -> None:
        """A mark was reached."""
        if mark == MARK:
            self._heard.set()
