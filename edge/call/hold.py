"""What a caller hears while a human is being rung: the ringing tone they know (ITU-T E.180, North America)."""

import asyncio

import numpy as np

from edge.call.ports import SAMPLE_RATE_HZ, MediaLeg

RINGING_HZ = (440.0, 480.0)
RINGING_S = 2.0
PAUSE_S = 4.0
# About -40 dBFS, far below speech: nobody must take it for an answer.
AMPLITUDE = 330.0


def ringing_tone() -> bytes:
    """One ring, int16 mono at 16 kHz."""
    times = np.arange(int(RINGING_S * SAMPLE_RATE_HZ)) / SAMPLE_RATE_HZ
    tone = sum(AMPLITUDE * np.sin(2 * np.pi * hertz * times) for hertz in RINGING_HZ)
    return np.asarray(tone, dtype="<i2").tobytes()


async def play_ringing(leg: MediaLeg) -> None:
    """Ring until cancelled; what is still queued then is dropped."""
    tone = ringing_tone()
    try:
        while True:
            await leg.send(tone)
            # The pause is timed here and not by what is queued: a leg that has closed takes everything at once.
            await asyncio.sleep(RINGING_S + PAUSE_S)
    finally:
        await leg.flush()
