"""The last seconds of the caller's audio, addressed by position."""


class RecentAudio:
    """A bounded window of int16 mono audio; the oldest samples are dropped first and counted."""

    def __init__(self, *, capacity_samples: int) -> None:
        self._capacity_bytes = 2 * capacity_samples
        self._pcm = bytearray()
        self._start = 0
        self.dropped_samples = 0

    @property
    def start(self) -> int:
        """Position of the oldest sample that is kept."""
        return self._start

    @property
    def end(self) -> int:
        """Position after the newest sample."""
        return self._start + len(self._pcm) // 2

    def append(self, pcm: bytes) -> None:
        """Add audio at the end."""
        self._pcm += pcm
        excess = len(self._pcm) - self._capacity_bytes
        if excess > 0:
            self._discard(excess // 2)
            self.dropped_samples += excess // 2

    def forget_before(self, position: int) -> None:
        """Drop what lies before `position`."""
        self._discard(min(position, self.end) - self._start)

    def between(self, start: int, end: int) -> bytes:
        """Audio of [start, end), as far as it is kept."""
        first = max(start, self._start) - self._start
        last = min(end, self.end) - self._start
        return bytes(self._pcm[2 * first : 2 * last]) if last > first else b""

    def _discard(self, samples: int) -> None:
        if samples > 0:
            del self._pcm[: 2 * samples]
            self._start += samples
