"""A cordoned node refuses real calls before they are answered, with a cause that sends them to another node."""

import asyncio
from pathlib import Path

import pytest

from edge.call.errors import NodeCordonedError
from edge.call.ports import HangupCause
from edge.call.reception import Reception
from edge.call.roster import ServedRoster
from edge.call.slots import SlotLedger
from edge.inference.client import InferenceClient
from edge.observability.metrics import CallMetrics
from edge.speech.prepared import PreparedAudio
from edge.sync.cordon import Cordon
from edge.telephony.inbound import InboundCalls
from edge.turn.vad import SileroModel
from tests.edge.telephony.carrier_caller import Carrier
from tests.edge.turn.conftest import MODEL

pytestmark = pytest.mark.asyncio(loop_scope="module")
WITHIN_S = 5.0
UNALLOCATED, NO_CIRCUIT = int(HangupCause.UNALLOCATED_NUMBER), int(HangupCause.NO_CIRCUIT)


def reception_of(folder: Path, cordon: Cordon) -> Reception:
    """A worker's reception without agents; no call gets far enough to need more."""
    if not MODEL.exists():
        pytest.skip(f"{MODEL} is missing: fetch it with `borough models fetch`")
    inference = InferenceClient(folder / "inference.sock")
    return Reception(
        roster=ServedRoster(),
        transcriber=inference,
        audio=PreparedAudio(folder / "prepared", inference, model=""),
        vad=SileroModel(MODEL),
        slots=SlotLedger(directory=folder / "slots", capacity=1),
        metrics=CallMetrics.create(),
        keep=lambda _: None,
        subject_key=bytes(32),
        cordon=cordon,
    )


async def cause_of_one_call(carrier: Carrier, calls: InboundCalls, reception: Reception) -> int:
    async with asyncio.timeout(WITHIN_S), carrier.ring() as caller:
        async for call in calls.incoming():
            await reception.take(calls, call)
            break
        await caller.watch.wait_until(lambda: caller.watch.is_gone)
        assert not caller.watch.is_in_stasis  # the carrier would have it there once answered
        return caller.watch.cause


@pytest.mark.parametrize("marker", ["cordon", "bundles/1/cordoned"])
async def test_while_the_file_is_there_new_calls_are_refused(
    tmp_path: Path, carrier: Carrier, calls: InboundCalls, marker: str
) -> None:
    """The operator's file, or the one that comes with a bundle. It and its end count for the next call."""
    (tmp_path / "bundles/1").mkdir(parents=True)
    (tmp_path / "current").symlink_to("bundles/1")
    reception = reception_of(tmp_path, Cordon.of(tmp_path / "cordon", tmp_path))
    assert await cause_of_one_call(carrier, calls, reception) == UNALLOCATED
    (tmp_path / marker).touch()
    assert await cause_of_one_call(carrier, calls, reception) == NO_CIRCUIT
    with pytest.raises(NodeCordonedError):
        reception.admit("shop/line")
    assert reception.slots.in_use() == 0
    (tmp_path / marker).unlink()
    assert await cause_of_one_call(carrier, calls, reception) == UNALLOCATED
    with reception.admit("shop/line"):
        assert reception.slots.in_use() == 1
    counted = reception.metrics.calls_refused.labels(reason="cordoned")._value.get()
    assert counted == 2


async def test_a_node_without_either_file_is_never_cordoned(tmp_path: Path) -> None:
    assert not Cordon.of(None, None).is_up
    assert not Cordon.of(tmp_path / "no-such-folder/cordon", tmp_path / "no-sync-folder").is_up
