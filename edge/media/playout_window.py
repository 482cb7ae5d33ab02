"""How much of what was sent is still waiting to be played, and which marks are outstanding.

Pure: counts bytes and hands out mark numbers, knows no socket. Asterisk acknowledges a mark when every frame before it
has been played; we set marks of our own between the user's, so that the amount queued is always known to 200 ms.
"""

# int16 mono at 16 kHz.
BYTES_PER_S = 32_000
CHECKPOINT_BYTES = BYTES_PER_S // 5


class PlayoutWindow:
    """Positions are bytes since the leg began."""

    def __init__(self, limit_bytes: int) -> None:
        self._limit_bytes = limit_bytes
        self._sent = 0
        self._played = 0
        self._checked = 0
        self._next_number = 0
        self._pending: dict[str, tuple[int, str | None]] = {}

    @property
    def queued_bytes(self) -> int:
        """Sent and, as far as we know, not played."""
        return self._sent - self._played

    @property
    def room_bytes(self) -> int:
        """What may be sent now."""
        return max(0, self._limit_bytes - self.queued_bytes)

    def add(self, count_bytes: int) -> str | None:
        """Note audio that was sent; a number returned is a checkpoint to mark now."""
        self._sent += count_bytes
        if self._sent - self._checked < CHECKPOINT_BYTES:
            return None
        return self._number(None)

    @property
    def is_drained(self) -> bool:
        """Whether all that was sent has been played."""
        return self._played == self._sent

    def end(self) -> str | None:
        """Return a checkpoint behind the last audio, unless there is one."""
        return self._number(None) if self._checked < self._sent else None

    def mark(self, name: str) -> str:
        """Return the number that stands for this mark."""
        return self._number(name)

    def acknowledge(self, number: str) -> str | None:
        """Note that a mark was reached, and return its name if it is the user's; unknown numbers were flushed."""
        position, name = self._pending.pop(number, (0, None))
        self._played = max(self._played, position)
        return name

    def flush(self) -> None:
        """Forget what is queued, and its marks."""
        self._played = self._sent
        self._checked = self._sent
        self._pending.clear()

    def _number(self, name: str | None) -> str:
        self._checked = self._sent
        number = str(self._next_number)
        self._next_number += 1
        self._pending[number] = (self._sent, name)
        return number
