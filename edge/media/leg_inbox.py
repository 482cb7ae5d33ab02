"""What a leg has received and the call has not taken yet: audio is bounded, everything else is kept."""

import asyncio
from collections import deque

from edge.call.ports import AudioReceived, LegClosed, LegEvent

# One second: a call that is later than this answers to the past.
MAX_AUDIO_FRAMES = 50


class LegInbox:
    """Drops the oldest audio when full and counts it; LegClosed is the last event and stays."""

    def __init__(self, max_audio_frames: int = MAX_AUDIO_FRAMES) -> None:
        self.dropped_frames = 0
        self._max_audio_frames = max_audio_frames
        self._audio_frames = 0
        self._events: deque[LegEvent] = deque()
        self._closed: LegClosed | None = None
        self._filled = asyncio.Event()

    def put(self, event: LegEvent) -> None:
        """Add an event; nothing is added after LegClosed."""
        if self._closed is not None:
            return
        if isinstance(event, AudioReceived):
            if self._audio_frames >= self._max_audio_frames:
                self._drop_oldest_audio()
            self._audio_frames += 1
        elif isinstance(event, LegClosed):
            self._closed = event
        self._events.append(event)
        self._filled.set()

    async def get(self) -> LegEvent:
        """Return the next event in order."""
        while not self._events:
            if self._closed is not None:
                return self._closed
            self._filled.clear()
            await self._filled.wait()
        event = self._events.popleft()
        if isinstance(event, AudioReceived):
            self._audio_frames -= 1
        return event

    def _drop_oldest_audio(self) -> None:
        for index, event in enumerate(self._events):
            if isinstance(event, AudioReceived):
                del self._events[index]
                self._audio_frames -= 1
                self.dropped_frames += 1
                return
