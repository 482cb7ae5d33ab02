"""What a caller hears while a human is being rung: the ringing tone they know (ITU-T E.180, North America)."""

import numpy as np

from edge.call.ports import SAMPLE_RATE_HZ, MediaLeg

RINGING_HZ = (440.0, 480.0)
RINGING_S = 2.0
PAUSE_S = 4.0
# Well below speech: a caller must not take it for an answer that is too loud.
AMPLITUDE = 330.0
PIECE_BYTES = 6_400


def ringing_tone() -> bytes:
    """One cadence of tone and pause, int16 mono at 16 kHz."""
    times = np.arange(int(RINGING_S * SAMPLE_RATE_HZ)) / SAMPLE_RATE_HZ
    tone = sum(AMPLITUDE * np.sin(2 * np.pi * hertz * times) for hertz in RINGING_HZ)
    return np.asarray(tone, dtype="<i2").tobytes() + bytes(2 * int(PAUSE_S * SAMPLE_RATE_HZ))


async def play_ringing(leg: MediaLeg) -> None:
    """Play the tone until cancelled; what is still queued then is dropped."""
    cadence = ringing_tone()
    try:
        while True:
            for start in range(0, len(cadence), PIECE_BYTES):
                await leg.send(cadence[start : start + PIECE_BYTES])
    finally:
        await leg.flush()
