import asyncio

import pytest

from edge.call.hold import play_ringing, ringing_tone
from edge.call.ports import SAMPLE_RATE_HZ
from tests.edge.call.talk import ListLeg


async def test_a_leg_that_takes_everything_at_once_gets_one_ring_and_the_loop_stays_free() -> None:
    """A closed leg returns from `send` at once: a loop over it once stopped a whole worker."""
    leg = ListLeg()
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.2):
            await play_ringing(leg)
    assert leg.sent == len(ringing_tone()) == 2 * 2 * SAMPLE_RATE_HZ
    assert leg.commands == ["flush"]
