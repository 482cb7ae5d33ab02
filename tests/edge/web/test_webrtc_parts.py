"""The synchronous parts of the WebRTC leg: order, frames, playout and its clock."""

import itertools

import av
import numpy as np
import pytest
from aiortc.rtp import RtpPacket
from hypothesis import given, settings
from hypothesis import strategies as st

from edge.call.ports import FRAME_BYTES, FRAME_SAMPLES
from edge.media.webrtc import FrameAssembler, PassThroughOrder, PlayoutBuffer, PlayoutClock


def decoded(pts: int, value: int = 1000) -> av.AudioFrame:
    samples = np.full((1, 2 * 960), value, dtype=np.int16)
    frame = av.AudioFrame.from_ndarray(samples, format="s16", layout="stereo")
    frame.sample_rate = 48_000
    frame.pts = pts
    return frame


def packet(number: int) -> RtpPacket:
    made = RtpPacket(payload_type=96, sequence_number=number, timestamp=number * 960)
    made._data = b"%d" % number  # type: ignore[attr-defined]
    return made


def test_packets_pass_at_once_in_order_over_the_wrap_and_late_ones_are_dropped() -> None:
    order = PassThroughOrder()
    numbers = [65534, 65535, 0, 2, 1, 2, 3]
    passed = [frame.data for number in numbers if (frame := order.add(packet(number))[1]) is not None]
    assert passed == [b"65534", b"65535", b"0", b"2", b"3"]


@settings(deadline=None)
@given(st.lists(st.integers(0, 65535), max_size=40))
def test_what_passes_is_never_a_late_packet(numbers: list[int]) -> None:
    order = PassThroughOrder()
    passed = [number for number in numbers if order.add(packet(number))[1] is not None]
    assert all((earlier - later) % 65536 >= 100 for earlier, later in itertools.pairwise(passed))


def test_a_stream_that_begins_anew_is_heard() -> None:
    order = PassThroughOrder()
    numbers = [40_000, 40_001, 12_000, 12_001]
    assert [order.add(packet(number))[1] is not None for number in numbers] == [True] * 4


def test_a_lost_packet_becomes_its_length_in_silence() -> None:
    assembler = FrameAssembler(1.0)
    frames = [pcm for pts in (0, 960, 2880, 3840) for pcm in assembler.add(decoded(pts))]
    assert assembler.filled_samples == FRAME_SAMPLES
    # The resampler's filter holds back less than one frame.
    assert len(frames) in {4, 5}
    assert {len(frame) for frame in frames} == {FRAME_BYTES}


def test_a_long_gap_is_filled_up_to_its_limit() -> None:
    assembler = FrameAssembler(0.1)
    assembler.add(decoded(0))
    assembler.add(decoded(48_000 * 60))
    assert assembler.filled_samples == 1600


def test_marks_are_reached_exactly_when_their_samples_were_taken() -> None:
    buffer = PlayoutBuffer()
    buffer.push(b"\1\0" * 500)
    buffer.mark("first")
    buffer.push(b"\2\0" * 140)
    buffer.mark("second")
    assert buffer.reached_marks() == []
    buffer.take_frame()
    assert buffer.reached_marks() == []
    assert buffer.take_frame() == b"\1\0" * 180 + b"\2\0" * 140
    assert buffer.reached_marks() == ["first", "second"]
    assert buffer.reached_marks() == []


def test_a_pause_keeps_every_sample_and_a_flush_drops_them_with_their_marks() -> None:
    buffer = PlayoutBuffer()
    buffer.push(b"\1\0" * 640)
    buffer.mark("end")
    assert buffer.take_frame() == b"\1\0" * 320
    buffer.pause()
    assert buffer.take_frame() == bytes(FRAME_BYTES)
    buffer.resume()
    assert buffer.take_frame() == b"\1\0" * 320
    assert buffer.reached_marks() == ["end"]
    buffer.push(b"\1\0" * 640)
    buffer.mark("never")
    buffer.pause()
    buffer.flush()
    assert buffer.queued_samples == 0
    assert buffer.reached_marks() == []
    buffer.push(b"\3\0" * 320)
    assert buffer.take_frame() == b"\3\0" * 320


@settings(deadline=None)
@given(st.lists(st.integers(1, 2000), max_size=20), st.data())
def test_playout_is_what_was_pushed_whatever_the_pauses(lengths: list[int], data: st.DataObject) -> None:
    buffer = PlayoutBuffer()
    for index, length in enumerate(lengths):
        buffer.push(np.full(length, index + 1, dtype="<i2").tobytes())
        buffer.mark(str(index))
    played, marks = b"", []
    while buffer.queued_samples:
        (buffer.pause if data.draw(st.booleans()) else buffer.resume)()
        played += buffer.take_frame()
        marks += buffer.reached_marks()
        buffer.resume()
        played += buffer.take_frame()
        marks += buffer.reached_marks()
    heard = np.frombuffer(played, dtype="<i2")
    expected = np.concatenate([np.full(n, i + 1) for i, n in enumerate(lengths)]) if lengths else np.zeros(0)
    assert np.array_equal(heard[heard != 0], expected)
    assert marks == [str(index) for index in range(len(lengths))]


def test_a_late_clock_goes_on_from_now_without_a_burst() -> None:
    clock = PlayoutClock()
    assert clock.wait_s(10.0) == 0.0
    assert clock.wait_s(10.003) == pytest.approx(0.017)
    assert clock.wait_s(10.5) == 0.0
    assert clock.wait_s(10.5) == pytest.approx(0.02)
    assert clock.wait_s(10.52) == pytest.approx(0.02)
    assert clock.late_frames == 1
