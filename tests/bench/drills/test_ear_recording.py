"""What a caller heard lies where it reached the ear."""

from pathlib import Path

import numpy as np

from bench import g711
from bench.drills.ear_recording import RATE_HZ, EarRecording
from bench.recording import read_recording, speech_spans

FRAME_S = 0.02
TONE = (np.sin(np.arange(160) * 2 * np.pi * 440 / RATE_HZ) * 8000).astype(np.int16)
LOUD, QUIET = g711.encode(TONE), bytes([0xFF]) * 160
BEGAN_S = 100.0


def heard(recording: EarRecording, folder: Path, length_s: float) -> list[tuple[float, float]]:
    spoken, agent = folder / "a.spoken.wav", folder / "a.heard.wav"
    recording.write(spoken, agent, BEGAN_S + length_s)
    found = read_recording(spoken, agent)
    assert len(found.caller) == len(found.agent) == length_s * RATE_HZ
    return [
        (round(span.start_s, 2), round(span.end_s, 2)) for span in speech_spans(found.agent, RATE_HZ, merge_gap_s=0.01)
    ]


def test_frames_that_never_came_are_silence(tmp_path: Path) -> None:
    recording = EarRecording(BEGAN_S)
    for at in (*np.arange(1.0, 2.0, FRAME_S), *np.arange(4.0, 5.0, FRAME_S)):
        recording.hear(LOUD, BEGAN_S + float(at))
    assert heard(recording, tmp_path, 6.0) == [(1.0, 2.0), (4.0, 5.0)]


def test_uneven_arrival_is_evened_out(tmp_path: Path) -> None:
    recording = EarRecording(BEGAN_S)
    for index in range(50):
        recording.hear(LOUD, BEGAN_S + 1.0 + FRAME_S * index + (0.03 if index % 3 else 0.0))
    assert heard(recording, tmp_path, 3.0) == [(1.0, 2.0)]


def test_after_a_burst_a_pause_catches_up(tmp_path: Path) -> None:
    recording = EarRecording(BEGAN_S)
    for _ in range(50):
        recording.hear(LOUD, BEGAN_S + 1.0)
    for index in range(100):
        recording.hear(QUIET, BEGAN_S + 1.0 + FRAME_S * index)
    recording.hear(LOUD, BEGAN_S + 3.0)
    recording.hear(LOUD, BEGAN_S + 3.02)
    recording.hear(LOUD, BEGAN_S + 3.04)
    assert heard(recording, tmp_path, 4.0) == [(1.0, 2.0), (3.06, 3.12)]


def test_what_the_caller_says_lies_where_it_was_said(tmp_path: Path) -> None:
    recording = EarRecording(BEGAN_S)
    recording.say(LOUD * 50, BEGAN_S + 2.0)
    recording.write(tmp_path / "s.wav", tmp_path / "h.wav", BEGAN_S + 4.0)
    found = read_recording(tmp_path / "s.wav", tmp_path / "h.wav")
    (span,) = speech_spans(found.caller, RATE_HZ, merge_gap_s=0.2)
    assert (round(span.start_s, 2), round(span.end_s, 2)) == (2.0, 3.0)
