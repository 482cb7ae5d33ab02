"""The parts together, driven as a session drives them: sound in, actions out, with a recogniser that takes 100 ms."""

from dataclasses import dataclass, field

import numpy as np
import pytest
from numpy.typing import NDArray

from edge.turn.activity import ActivityState, SpeechActivity, SpeechPaused, SpeechResumed, SpeechStarted
from edge.turn.barge_in import AgentSpeech, BargeIn, Evidence, Verdict
from edge.turn.endpointing import Endpointer
from edge.turn.floor import Floor, FloorAction, FloorEvent, FloorState

Pcm = NDArray[np.int16]
SECOND = 16_000
FRAME = 320
RECOGNISER_S = 0.1
FLOOR_EVENTS = {
    SpeechStarted: FloorEvent.SPEECH_STARTED,
    SpeechPaused: FloorEvent.SPEECH_PAUSED,
    SpeechResumed: FloorEvent.SPEECH_RESUMED,
}


class LoudnessDetector:
    """Takes every loud chunk for speech: exact edges."""

    def probability(self, chunk: NDArray[np.float32]) -> float:
        """1 for a loud chunk, else 0."""
        return 1.0 if float(np.abs(chunk).max()) > 1000 else 0.0

    def reset(self) -> None:
        """Forget nothing: there is no memory."""


@dataclass(slots=True, kw_only=True)
class Driver:
    """A session without I/O: `words` is what the recogniser will find in the open utterance."""

    words: str
    is_complete: bool = True
    activity: SpeechActivity = field(default_factory=lambda: SpeechActivity(LoudnessDetector()))
    floor: Floor = field(default_factory=Floor)
    endpointer: Endpointer = field(default_factory=Endpointer)
    barge_in: BargeIn = field(default_factory=BargeIn)
    done: list[tuple[float, FloorAction]] = field(default_factory=list)
    recognised_at: float | None = None
    onset: int = 0
    is_continuation: bool = False

    @property
    def now(self) -> float:
        """Seconds of sound heard."""
        return self.activity.position / SECOND

    def hear(self, pcm: Pcm) -> None:
        """Take sound, frame by frame."""
        for start in range(0, len(pcm), FRAME):
            for event in self.activity.feed(pcm[start : start + FRAME].tobytes()):
                if not isinstance(event, SpeechPaused):
                    self.onset, self.is_continuation = event.onset, isinstance(event, SpeechResumed)
                self.apply(FLOOR_EVENTS[type(event)])
            self.decide()

    def apply(self, event: FloorEvent) -> None:
        """Apply an event if it can happen, and obey."""
        if not self.floor.allows(event):
            return
        for action in self.floor.apply(event):
            self.done.append((self.now, action))
            self.obey(action)

    def obey(self, action: FloorAction) -> None:
        """Carry out one action."""
        match action:
            case FloorAction.START_SPECULATION:
                self.recognised_at = self.now + RECOGNISER_S
            case FloorAction.DROP_SPECULATION | FloorAction.DROP_REPLY:
                self.recognised_at = None
            case FloorAction.COMMIT_TURN:
                self.activity.release()
                self.apply(FloorEvent.REPLY_READY)
            case FloorAction.DROP_UTTERANCE:
                self.activity.discard()
            case FloorAction.PAUSE_PLAYOUT:
                self.recognised_at = None
                self.barge_in.begin(AgentSpeech(text="We are open from nine to five.", remaining_s=2.0))
            case FloorAction.MERGE_UTTERANCE:
                self.endpointer.decided_too_early()
            case _:
                pass

    def decide(self) -> None:
        """Look whether the turn is over, or what the sound over our speech was."""
        heard = self.words if self.recognised_at is not None and self.now >= self.recognised_at else None
        if self.floor.state is FloorState.CALLER_PAUSED:
            required_s = self.endpointer.required_silence_s(heard, is_complete=self.is_complete)
            if self.activity.silence_s >= required_s:
                self.apply(FloorEvent.ENDPOINT_REACHED)
        elif self.floor.state in (FloorState.ARBITRATING, FloorState.ARBITRATING_PAUSED):
            self.arbitrate(heard)

    def arbitrate(self, heard: str | None) -> None:
        """Judge the sound over our speech."""
        since_onset_s = self.now - self.onset / SECOND
        if self.barge_in.wants_words(since_onset_s):
            self.recognised_at = self.now + RECOGNISER_S
        is_speaking = self.activity.state is ActivityState.SPEAKING
        evidence = Evidence(
            since_onset_s=since_onset_s, spoken_s=self.activity.spoken_s, is_speaking=is_speaking, text=heard
        )
        verdict = self.barge_in.consider(evidence)
        if verdict is Verdict.RESUME:
            self.apply(FloorEvent.BARGE_IN_REJECTED)
        elif verdict is Verdict.FLUSH:
            continued, new = FloorEvent.CONTINUATION_CONFIRMED, FloorEvent.BARGE_IN_CONFIRMED
            self.apply(continued if self.is_continuation else new)

    def at(self, action: FloorAction) -> float:
        """When `action` was last taken."""
        return next(when for when, taken in reversed(self.done) if taken is action)

    def took(self, action: FloorAction) -> int:
        """How often `action` was taken."""
        return sum(taken is action for _, taken in self.done)


def silence(seconds: float) -> Pcm:
    return np.zeros(round(seconds * SECOND), dtype=np.int16)


def speech(seconds: float) -> Pcm:
    wave: Pcm = (8000 * np.sin(np.arange(round(seconds * SECOND)) * 0.2)).astype(np.int16)
    return wave


def speaking_agent() -> Driver:
    driver = Driver(words="")
    driver.hear(silence(1))
    driver.apply(FloorEvent.REPLY_READY)
    return driver


def test_a_complete_request_is_committed_200_ms_after_its_end() -> None:
    """Recognition runs within the silence that the decision needs anyway."""
    driver = Driver(words="What are your opening hours?")
    driver.hear(np.concatenate([silence(1), speech(1.0), silence(1)]))
    assert driver.at(FloorAction.START_SPECULATION) - 2.0 == pytest.approx(0.07, abs=0.02)
    assert driver.at(FloorAction.START_PLAYOUT) - 2.0 == pytest.approx(0.19, abs=0.02)


def test_an_unfinished_sentence_is_waited_for() -> None:
    """A pause of 0.7 s after "and" costs speculation, not the turn."""
    driver = Driver(words="I want to change my booking and")
    driver.hear(np.concatenate([silence(1), speech(1.0), silence(0.7), speech(0.5)]))
    assert driver.took(FloorAction.COMMIT_TURN) == 0
    driver.words = "I want to change my booking and my address."
    driver.hear(silence(1))
    assert driver.took(FloorAction.COMMIT_TURN) == 1
    assert driver.at(FloorAction.COMMIT_TURN) - 3.2 < 0.22


def test_a_caller_who_goes_on_after_the_commit_is_merged() -> None:
    """The reply stops, the utterance goes on, the next one is given more time."""
    driver = Driver(words="I want to cancel my order.")
    driver.hear(np.concatenate([silence(1), speech(1.0), silence(0.4), speech(1.0), silence(1.0)]))
    assert driver.took(FloorAction.MERGE_UTTERANCE) == 1
    assert driver.took(FloorAction.COMMIT_TURN) == 2
    assert driver.at(FloorAction.COMMIT_TURN) - 3.4 == pytest.approx(0.29, abs=0.03)
    assert len(driver.activity.utterance()) / 2 / SECOND == pytest.approx(0.3 + 1.0 + 0.4 + 1.0 + 0.1, abs=0.05)


def test_playout_is_held_within_120_ms_of_the_caller_speaking() -> None:
    """And given up within 500 ms, on the first words."""
    driver = speaking_agent()
    driver.words = "Sorry, what about"
    driver.hear(speech(1.5))
    assert driver.at(FloorAction.PAUSE_PLAYOUT) - 1.0 <= 0.12
    assert driver.at(FloorAction.FLUSH_PLAYOUT) - 1.0 <= 0.5


@pytest.mark.parametrize(("words", "seconds"), [("", 0.2), ("Uh-huh.", 0.45), ("Mm-hmm.", 0.6), ("Okay.", 0.35)])
def test_coughs_and_backchannels_never_lose_the_reply(words: str, seconds: float) -> None:
    """Playout is held and goes on, within 0.8 s."""
    driver = speaking_agent()
    driver.words = words
    driver.hear(np.concatenate([speech(seconds), silence(1.0)]))
    assert driver.took(FloorAction.FLUSH_PLAYOUT) == 0
    assert driver.took(FloorAction.PAUSE_PLAYOUT) == driver.took(FloorAction.RESUME_PLAYOUT) > 0
    assert driver.floor.state is FloorState.AGENT_SPEAKING
    assert driver.at(FloorAction.RESUME_PLAYOUT) - 1.0 <= 0.8


def test_a_short_stop_stops_us() -> None:
    """A quarter of a second is enough."""
    driver = speaking_agent()
    driver.words = "Stop."
    driver.hear(np.concatenate([speech(0.25), silence(1.0)]))
    assert driver.took(FloorAction.FLUSH_PLAYOUT) == 1
    assert driver.took(FloorAction.COMMIT_TURN) == 1
