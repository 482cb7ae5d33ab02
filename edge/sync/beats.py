"""The age of a stream's newest beat: what tells a quiet stream from a stalled one."""

import time
from collections.abc import Callable

from google.protobuf.message import DecodeError

from contract.downlink_pb2 import Beat


class BeatWatch:
    """The beats of one mirrored stream.

    A beat's age counts by the hub's clock and by when a newer one came last; the smaller is right where clocks differ.
    """

    def __init__(self, now_s: Callable[[], float] = time.time, monotonic: Callable[[], float] = time.monotonic) -> None:
        self._now_s = now_s
        self._monotonic = monotonic
        self._began_at = monotonic()
        self._newest: Beat | None = None
        self._advanced_at: float | None = None

    def hear(self, payload: bytes) -> None:
        """A message came on the beat's subject."""
        try:
            beat = Beat.FromString(payload)
        except DecodeError:
            return
        if self._newest is not None and beat.seq != self._newest.seq:
            self._advanced_at = self._monotonic()
        self._newest = beat

    def age_s(self) -> float:
        """Seconds since the newest beat; since the start when none ever came."""
        if self._newest is None:
            return self._monotonic() - self._began_at
        by_clock = max(0.0, self._now_s() - self._newest.sent_at_ms / 1000)
        if self._advanced_at is None:
            return by_clock
        return min(by_clock, self._monotonic() - self._advanced_at)
