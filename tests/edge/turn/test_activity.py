"""Speech activity: recorded speech through a telephone line, and properties that hold for any sound."""

from collections.abc import Callable, Sequence
from typing import Protocol

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from edge.turn.activity import (
    ActivityEvent,
    ActivitySettings,
    ActivityState,
    SpeechActivity,
    SpeechPaused,
    SpeechResumed,
    SpeechStarted,
)
from edge.turn.vad import CHUNK_SAMPLES, EnergyGate, SileroDetector, SileroModel

Pcm = NDArray[np.int16]
SECOND = 16_000


class Recorded(Protocol):
    """What the `recordings` fixture gives."""

    @property
    def path(self) -> str: ...
    @property
    def pcm(self) -> Pcm: ...


Recordings = Callable[[str], Sequence[Recorded]]


class LoudnessDetector:
    """Takes every loud chunk for speech: a double with exact edges for tests of the state machine."""

    def __init__(self) -> None:
        self.asked = 0

    def probability(self, chunk: NDArray[np.float32]) -> float:
        """1 for a loud chunk, else 0."""
        self.asked += 1
        return 1.0 if float(np.abs(chunk).max()) > 1000 else 0.0

    def reset(self) -> None:
        """Forget nothing: there is no memory."""


def silence(seconds: float) -> Pcm:
    return np.zeros(round(seconds * SECOND), dtype=np.int16)


def tone(seconds: float, amplitude: int = 8000) -> Pcm:
    wave: Pcm = (amplitude * np.sin(np.arange(round(seconds * SECOND)) * 0.2)).astype(np.int16)
    return wave


def line_noise(samples: Pcm, rms: float = 3.0) -> Pcm:
    noise = np.random.default_rng(7).normal(0, rms, len(samples))
    return np.clip(samples + noise, -32768, 32767).astype(np.int16)


def fed(activity: SpeechActivity, pcm: Pcm, frame_samples: int = 320) -> list[ActivityEvent]:
    events: list[ActivityEvent] = []
    for start in range(0, len(pcm), frame_samples):
        events += activity.feed(pcm[start : start + frame_samples].tobytes())
    return events


def spoken_part(pcm: Pcm) -> Pcm:
    """The recording without what lies 30 dB below its speech at both ends."""
    hop = 160
    power = (pcm[: len(pcm) // hop * hop].astype(np.float64).reshape(-1, hop) ** 2).mean(axis=1) + 1
    loud = np.flatnonzero(power > np.percentile(power, 95) / 1000)
    first, last = int(loud[0]), int(loud[-1])
    return pcm[first * hop : (last + 1) * hop]


def test_speech_start_pause_and_resumption_are_reported_with_their_positions() -> None:
    """Two tones: onset, pause and resumption lie where the sound changes, to a hop of 8 ms."""
    activity = SpeechActivity(LoudnessDetector())
    events = fed(activity, np.concatenate([silence(1), tone(0.8), silence(0.4), tone(0.5), silence(1)]))
    started, paused, resumed, last = events
    assert isinstance(started, SpeechStarted)
    assert isinstance(paused, SpeechPaused)
    assert isinstance(resumed, SpeechResumed)
    assert isinstance(last, SpeechPaused)
    assert started.onset == pytest.approx(1.0 * SECOND, abs=128)
    assert paused.speech_end == pytest.approx(1.8 * SECOND, abs=128)
    assert paused.position - paused.speech_end == pytest.approx(0.064 * SECOND, abs=128)
    assert resumed.pause_s == pytest.approx(0.4, abs=0.02)
    assert last.speech_end == pytest.approx(2.7 * SECOND, abs=128)
    assert activity.silence_s == pytest.approx(1.0, abs=0.02)
    assert activity.spoken_s == pytest.approx(1.3, abs=0.03)


def test_a_click_starts_nothing() -> None:
    """Sound shorter than the minimum is no speech."""
    assert fed(SpeechActivity(LoudnessDetector()), np.concatenate([silence(1), tone(0.02), silence(1)])) == []


def test_the_utterance_holds_the_look_back_and_a_short_tail() -> None:
    """300 ms before the onset are kept, so a soft first consonant is never cut."""
    activity = SpeechActivity(LoudnessDetector())
    fed(activity, np.concatenate([silence(2), tone(0.8), silence(1)]))
    assert len(activity.utterance()) / 2 == pytest.approx((0.3 + 0.8 + 0.1) * SECOND, abs=256)


def test_the_utterance_is_bounded_and_drops_the_oldest() -> None:
    """An endless talker costs bounded memory."""
    activity = SpeechActivity(LoudnessDetector(), ActivitySettings(max_utterance_s=2.0))
    fed(activity, np.concatenate([silence(1), tone(5)]))
    assert len(activity.utterance()) == 2 * 2 * SECOND


def test_speech_does_not_stay_open_when_frames_stop() -> None:
    """Missing audio counts as silence, is reported once, and adds to `silence_s`."""
    activity = SpeechActivity(LoudnessDetector())
    fed(activity, np.concatenate([silence(1), tone(0.8)]))
    assert activity.state is ActivityState.SPEAKING
    assert activity.starve(320) == []
    (paused,) = activity.starve(2000)
    assert isinstance(paused, SpeechPaused)
    assert activity.starve(8000) == []
    assert activity.silence_s == pytest.approx(0.5, abs=0.04)
    assert activity.position == pytest.approx(2.3 * SECOND, abs=128)
    assert [type(e) for e in fed(activity, tone(0.3))] == [SpeechResumed]


def test_a_released_utterance_is_resumed_within_the_merge_window_only() -> None:
    """Going on right after a premature decision continues the utterance; later speech is a new one."""
    activity = SpeechActivity(LoudnessDetector())
    fed(activity, np.concatenate([silence(1), tone(0.8), silence(0.3)]))
    activity.release()
    (resumed, _) = fed(activity, np.concatenate([tone(0.5), silence(0.3)]))
    assert isinstance(resumed, SpeechResumed)
    assert len(activity.utterance()) / 2 == pytest.approx((0.3 + 0.8 + 0.3 + 0.5 + 0.1) * SECOND, abs=400)
    activity.release()
    events = fed(activity, np.concatenate([silence(1.5), tone(0.5)]))
    assert [type(e) for e in events] == [SpeechStarted]


def test_an_utterance_stays_open_until_it_is_released() -> None:
    """Reading a card takes pauses longer than the merge window."""
    activity = SpeechActivity(LoudnessDetector())
    events = fed(activity, np.concatenate([silence(1), tone(0.8), silence(2.2), tone(0.5)]))
    assert [type(e) for e in events] == [SpeechStarted, SpeechPaused, SpeechResumed]


def test_a_discarded_utterance_is_followed_by_a_new_one() -> None:
    """After noise was rejected, speech starts anew, even if the sound never stopped."""
    activity = SpeechActivity(LoudnessDetector())
    fed(activity, np.concatenate([silence(1), tone(0.8)]))
    activity.discard()
    assert [type(e) for e in fed(activity, tone(0.5))] == [SpeechStarted]


def test_sound_below_the_expected_echo_is_not_speech() -> None:
    """Our own voice coming back at -40 dBFS starts nothing while the echo estimate stands above it."""
    activity = SpeechActivity(LoudnessDetector())
    pcm = np.concatenate([silence(1), tone(1.0, amplitude=1500), silence(0.5)]).tobytes()
    assert activity.feed(pcm, minimum_dbfs=-25.0) == []
    assert activity.feed(pcm, minimum_dbfs=-45.0) != []


def test_digital_silence_does_not_reach_the_detector() -> None:
    """A silent line costs the model nothing once the gate has closed."""
    detector = LoudnessDetector()
    fed(SpeechActivity(detector), silence(10))
    assert detector.asked <= 12


def test_the_gate_replays_the_chunk_before_the_first_loud_one() -> None:
    """The model hears how a word began."""
    detector = LoudnessDetector()
    gate = EnergyGate(detector, hold_chunks=2)
    chunk = np.zeros(CHUNK_SAMPLES, dtype=np.float32)
    for _ in range(5):
        gate.probability(chunk, is_quiet=True)
    asked = detector.asked
    gate.probability(chunk + 5000, is_quiet=False)
    assert (asked, detector.asked) == (2, 4)


def _random_line(seed: int) -> Pcm:
    rng = np.random.default_rng(seed)
    parts = []
    for _ in range(6):
        seconds = float(rng.uniform(0.02, 0.9))
        parts.append(tone(seconds, int(rng.integers(1200, 12000))) if rng.random() < 0.5 else silence(seconds))
    return line_noise(np.concatenate(parts), 5.0)


@settings(max_examples=12, deadline=None)
@given(seed=st.integers(0, 10_000), cuts=st.lists(st.integers(1, 2000), min_size=1, max_size=40))
def test_events_do_not_depend_on_how_audio_is_cut_into_frames(seed: int, cuts: list[int]) -> None:
    """Any chunking of the same bytes gives identical events and identical utterance audio."""
    pcm = _random_line(seed).tobytes()
    whole = SpeechActivity(LoudnessDetector())
    expected = whole.feed(pcm)
    cut = SpeechActivity(LoudnessDetector())
    events: list[ActivityEvent] = []
    start = 0
    while start < len(pcm):
        size = cuts[len(events) % len(cuts)]
        events += cut.feed(pcm[start : start + size])
        start += size
    assert events == expected
    assert cut.utterance() == whole.utterance()


@settings(max_examples=30, deadline=None)
@given(seed=st.integers(0, 10_000))
def test_events_alternate_and_move_forward(seed: int) -> None:
    """Started, then paused and resumed in turn; positions never go back; what is known lies in the past."""
    activity = SpeechActivity(LoudnessDetector())
    is_speaking = False
    position = 0
    for event in fed(activity, _random_line(seed)):
        assert isinstance(event, SpeechPaused) == is_speaking
        is_speaking = not is_speaking
        assert event.position >= position
        position = event.position
        edge = event.speech_end if isinstance(event, SpeechPaused) else event.onset
        assert 0 <= edge <= event.position


def test_isolated_digits_are_heard_and_their_end_is_found(silero: SileroModel, recordings: Recordings) -> None:
    """Real digits over mu-law: none is missed, the end is known 60-130 ms after it for nearly all."""
    lateness = []
    for index, recording in enumerate(recordings("fsdd-test")[::6]):
        word = spoken_part(recording.pcm)
        before = silence(0.8 + 0.013 * (index % 20))
        events = fed(SpeechActivity(SileroDetector(silero)), line_noise(np.concatenate([before, word, silence(1)])))
        assert [type(e) for e in events][:1] == [SpeechStarted], recording.path
        last = events[-1]
        assert isinstance(last, SpeechPaused)
        lateness.append((last.position - len(before) - len(word)) / SECOND)
    assert 0.04 < float(np.median(lateness)) < 0.1
    assert float(np.percentile(lateness, 95)) < 0.15


def test_no_word_is_cut_at_its_beginning(silero: SileroModel, recordings: Recordings) -> None:
    """The utterance's audio begins before the word does."""
    for recording in recordings("fsdd-test")[1::10]:
        word = spoken_part(recording.pcm)
        activity = SpeechActivity(SileroDetector(silero))
        started = fed(activity, line_noise(np.concatenate([silence(1), word, silence(1)])))[0]
        assert isinstance(started, SpeechStarted)
        assert started.onset - 0.3 * SECOND <= 1.0 * SECOND + 800, recording.path


def test_sentences_are_heard_with_few_false_pauses(silero: SileroModel, recordings: Recordings) -> None:
    """Fluent speech pauses the recogniser's nerves less than once a second."""
    pauses, seconds = 0, 0.0
    for recording in recordings("english-misc")[:6]:
        words = spoken_part(recording.pcm)
        events = fed(SpeechActivity(SileroDetector(silero)), np.concatenate([silence(0.5), words, silence(1)]))
        assert any(isinstance(e, SpeechStarted) for e in events), recording.path
        pauses += sum(isinstance(e, SpeechResumed) for e in events)
        seconds += len(words) / SECOND
    assert pauses / seconds < 1.0


def test_a_dictated_number_is_one_utterance(silero: SileroModel, recordings: Recordings) -> None:
    """Six digits with gaps of half a second: one start, a pause after each, all of it in the utterance's audio."""
    digits = [spoken_part(recording.pcm) for recording in recordings("fsdd-test")[2:150:25]]
    pcm = np.concatenate([part for word in digits for part in (silence(0.5), word)] + [silence(1)])
    activity = SpeechActivity(SileroDetector(silero))
    events = fed(activity, line_noise(pcm))
    assert sum(isinstance(e, SpeechStarted) for e in events) == 1
    assert sum(isinstance(e, SpeechResumed) and e.pause_s > 0.3 for e in events) == len(digits) - 1
    assert len(activity.utterance()) / 2 == pytest.approx(len(pcm) - (0.2 + 0.9) * SECOND, abs=0.15 * SECOND)


def test_the_end_is_found_in_noise(silero: SileroModel, recordings: Recordings) -> None:
    """At 15 dB SNR the level hides the end; the detector still finds it, but for an "s" that drowns."""
    errors = []
    for recording in recordings("fsdd-test")[3::15]:
        word = spoken_part(recording.pcm)
        level = float(np.sqrt(np.mean(word.astype(np.float64) ** 2)))
        pcm = line_noise(np.concatenate([silence(2), word, silence(1)]), level / 5.6)
        paused = fed(SpeechActivity(SileroDetector(silero)), pcm)[-1]
        assert isinstance(paused, SpeechPaused), recording.path
        errors.append(abs(paused.speech_end / SECOND - 2 - len(word) / SECOND))
    assert float(np.median(errors)) < 0.1
    assert max(errors) < 0.3


Steps = list[tuple[str, float]]


@settings(max_examples=25, deadline=None)
@given(
    st.lists(
        st.tuples(st.sampled_from(["speech", "silence", "starve", "release", "discard"]), st.floats(0.01, 1.5)),
        max_size=12,
    )
)
def test_silence_always_ends_speech(steps: Steps) -> None:
    """Whatever came before, 100 ms of silence or of nothing leave no call stuck in speech."""
    activity = SpeechActivity(LoudnessDetector())
    for step, seconds in steps:
        match step:
            case "speech":
                fed(activity, tone(seconds))
            case "silence":
                fed(activity, silence(seconds))
            case "starve":
                activity.starve(round(seconds * SECOND))
            case "release":
                activity.release()
            case _:
                activity.discard()
    if len(steps) % 2:
        fed(activity, silence(0.11))
    else:
        activity.starve(1760)
    assert activity.state is not ActivityState.SPEAKING
    fed(activity, silence(0.2))
    activity.release()
    fed(activity, silence(1.3))
    assert activity.state is ActivityState.QUIET


def test_noise_and_room_impulses_start_nothing(silero: SileroModel, recordings: Recordings) -> None:
    """Recorded noise at telephone level is not speech."""
    for recording in recordings("noise-rir"):
        noise = (recording.pcm * 0.5).astype(np.int16)
        assert fed(SpeechActivity(SileroDetector(silero)), np.concatenate([silence(0.5), noise])) == [], recording.path


@pytest.mark.parametrize("seed", range(6))
def test_cough_like_bursts_are_no_long_speech(silero: SileroModel, seed: int) -> None:
    """Two decaying bursts of noise, as a cough makes them, give at most a blip that arbitration rejects."""
    rng = np.random.default_rng(seed)
    burst = rng.normal(0, 6000, 4000) * np.exp(-np.arange(4000) / 900)
    kernel = np.ones(6) / 6  # a throat is no bright source
    cough = np.convolve(burst, kernel, mode="same")
    pcm = np.concatenate([silence(1), cough, silence(0.15), 0.6 * cough, silence(1)])
    activity = SpeechActivity(SileroDetector(silero))
    fed(activity, line_noise(np.clip(pcm, -32768, 32767).astype(np.int16)))
    assert activity.spoken_s < 0.4
