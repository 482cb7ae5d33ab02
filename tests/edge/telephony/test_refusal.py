"""A call that a law keeps from being taken here is answered, told why, and let go; other calls are refused as ever."""

import asyncio
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from contract.downlink_pb2 import Backing, Backings
from edge.call.ports import AudioReceived, HangupCause, LegClosed, MediaLeg, Purpose
from edge.call.reception import Reception
from edge.call.refusal import BackingRefusals
from edge.speech.prepared import PreparedAudio
from edge.sync.backing import REFUSED_ANNOUNCEMENT, backing_files
from edge.sync.cordon import Cordon
from edge.telephony.inbound import InboundCalls
from tests.edge.telephony.carrier_caller import CALLED_NUMBER, Carrier
from tests.edge.telephony.test_cordon import cause_of_one_call, reception_of

pytestmark = pytest.mark.asyncio(loop_scope="module")
WITHIN_S = 15.0
RULE = "gdpr.residency.region_pair"
LOUD = 2_000


class Tone:
    """Says everything as one second of a tone, and remembers what."""

    def __init__(self) -> None:
        self.said: list[str] = []

    async def synthesize(self, text: str, purpose: Purpose, *, voice: str) -> AsyncIterator[bytes]:
        del purpose, voice
        self.said.append(text)
        times = np.arange(16_000) / 16_000
        yield (8_000 * np.sin(2 * np.pi * 440 * times)).astype("<i2").tobytes()


def refusing(folder: Path, tone: Tone, *, refused_by: str) -> Reception:
    """A worker of a region that backs another; the called number is a tenant's of that one."""
    backing = Backing(
        region="home", backup="help", tenant="bank", numbers=[CALLED_NUMBER], refused_by=refused_by, article="Art. 44"
    )
    for name, content in backing_files(Backings(region="help", backings=[backing])):
        (folder / name).write_bytes(content)
    reception = reception_of(folder, Cordon())
    audio = PreparedAudio(folder / "clips", tone, model="tone")
    law = BackingRefusals(bundle=folder, audio=audio, slots=reception.slots, metrics=reception.metrics)
    return replace(reception, law=law)


async def count_loud(leg: MediaLeg, heard: list[bytes]) -> None:
    """Keep the frames in which somebody can be heard."""
    while not isinstance(event := await leg.receive(), LegClosed):
        if isinstance(event, AudioReceived) and np.abs(np.frombuffer(event.pcm, "<i2")).max() > LOUD:
            heard.append(event.pcm)


async def test_the_caller_hears_why_and_is_let_go(tmp_path: Path, carrier: Carrier, calls: InboundCalls) -> None:
    tone, heard = Tone(), list[bytes]()
    reception = refusing(tmp_path, tone, refused_by=RULE)
    async with asyncio.timeout(WITHIN_S), carrier.ring() as caller:
        async for call in calls.incoming():
            async with asyncio.TaskGroup() as tasks:
                tasks.create_task(reception.take(calls, call))
                async with carrier.talk(caller) as media:
                    listening = tasks.create_task(count_loud(media.leg, heard))
                    await caller.watch.wait_until(lambda: caller.watch.is_gone)
                    listening.cancel()
            break
    assert len(heard) > 40  # frames of 20 ms, of one second
    assert tone.said == [REFUSED_ANNOUNCEMENT]
    assert reception.slots.in_use() == 0
    assert reception.metrics.calls_refused.labels(reason="residency")._value.get() == 1


async def test_without_a_slot_it_is_refused_before_it_is_answered(
    tmp_path: Path, carrier: Carrier, calls: InboundCalls
) -> None:
    tone = Tone()
    reception = refusing(tmp_path, tone, refused_by=RULE)
    with reception.slots.take("other"):
        assert await cause_of_one_call(carrier, calls, reception) == int(HangupCause.NO_CIRCUIT)
    assert tone.said == []


async def test_a_number_that_no_law_refuses_is_unknown(tmp_path: Path, carrier: Carrier, calls: InboundCalls) -> None:
    """Allowed, and yet nobody answers it: its tenant's documents have not come."""
    reception = refusing(tmp_path, Tone(), refused_by="")
    assert await cause_of_one_call(carrier, calls, reception) == int(HangupCause.UNALLOCATED_NUMBER)
