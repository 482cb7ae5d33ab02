"""Is this sound over our speech meant for us? Arbitration of barge-in.

Theory of operation. The playout is paused at the first sign of speech, so that the caller hears us stop at once; then,
within `decision_s`, every new piece of evidence is classified to a `Finding` and looked up in `VERDICTS`:

    finding        while held           after we went on
    PENDING        keep waiting         nothing
    SPEECH         FLUSH                FLUSH (the words came late)
    BACKCHANNEL    RESUME               nothing
    ECHO           RESUME               nothing
    NOISE          RESUME               nothing

A sound that is over and short is noise at `decision_s`. One that lasts, or lasted like speech, waits for its words
until `hold_s`: an "uh-huh" takes half a second, and while the caller sounds our silence is only polite. Without words
it is then taken as speech. `wants_words` tells when to have the beginning recognised, so that words usually come before
`decision_s`. So playout is never stuck, a cough or an "uh-huh" never costs the reply, and words that are recognised
only after we went on still win.

Short answers are protected: "yes", "no", "stop", "hello" and digits are speech however short; "yeah" and "okay" are
backchannel only while we are telling something, not while we end a yes/no question.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from types import MappingProxyType

from rapidfuzz import fuzz

from edge.conversation.dialogue import AnswerKind, Expectation
from edge.turn.dictation import digits_in
from edge.turn.words import word_set, words_of

BACKCHANNELS: Mapping[str, frozenset[str]] = MappingProxyType(
    {
        "en": word_set(
            "mm mmm mhm mmhm hm hmm huh uh uhhuh um umm ah aha oh ooh okay ok right yeah yep yup sure cool great good "
            "nice fine alright gotcha wow really interesting i see got it true exactly"
        )
    }
)
"""Words that, alone, mean "go on"; per language."""

PROTECTED: Mapping[str, frozenset[str]] = MappingProxyType(
    {"en": word_set("yes no nope stop wait hold hello help human agent operator cancel")}
)
"""Short answers and orders, always meant for us, however unsure the recogniser is; per language."""

# Phrases whose words are harmless one by one but which, together, are more than "go on".
_BACKCHANNEL_MAX_WORDS = 3
# Answers to a question we are just finishing.
_ANSWERS = word_set("yes yeah yep yup sure okay ok right correct exactly true fine alright")


class Verdict(StrEnum):
    """What to do with the held playout."""

    UNDECIDED = "undecided"
    RESUME = "resume"
    FLUSH = "flush"


class Finding(StrEnum):
    """What the sound over our speech seems to be."""

    PENDING = "pending"
    SPEECH = "speech"
    BACKCHANNEL = "backchannel"
    ECHO = "echo"
    NOISE = "noise"


class BargeInState(StrEnum):
    IDLE = "idle"
    HELD = "held"
    WENT_ON = "went_on"
    YIELDED = "yielded"


class IllegalBargeInError(Exception):
    """Evidence was given for a sound that never began, or after the floor was yielded: a defect of the caller."""


VERDICTS: Mapping[tuple[BargeInState, Finding], tuple[BargeInState, Verdict]] = MappingProxyType(
    {
        (BargeInState.HELD, Finding.PENDING): (BargeInState.HELD, Verdict.UNDECIDED),
        (BargeInState.HELD, Finding.SPEECH): (BargeInState.YIELDED, Verdict.FLUSH),
        (BargeInState.HELD, Finding.BACKCHANNEL): (BargeInState.WENT_ON, Verdict.RESUME),
        (BargeInState.HELD, Finding.ECHO): (BargeInState.WENT_ON, Verdict.RESUME),
        (BargeInState.HELD, Finding.NOISE): (BargeInState.WENT_ON, Verdict.RESUME),
        (BargeInState.WENT_ON, Finding.PENDING): (BargeInState.WENT_ON, Verdict.UNDECIDED),
        (BargeInState.WENT_ON, Finding.SPEECH): (BargeInState.YIELDED, Verdict.FLUSH),
        (BargeInState.WENT_ON, Finding.BACKCHANNEL): (BargeInState.WENT_ON, Verdict.UNDECIDED),
        (BargeInState.WENT_ON, Finding.ECHO): (BargeInState.WENT_ON, Verdict.UNDECIDED),
        (BargeInState.WENT_ON, Finding.NOISE): (BargeInState.WENT_ON, Verdict.UNDECIDED),
    }
)


@dataclass(frozen=True, slots=True, kw_only=True)
class BargeInSettings:
    """How a sound over our speech is judged."""

    decision_s: float = 0.5
    """By then a sound is judged, unless it lasts without known words. 0.2-1.5 s."""
    hold_s: float = 0.8
    """Playout is held no longer than this without a verdict. `decision_s`-2 s."""
    ask_words_after_s: float = 0.28
    """A sound that lasts this long is worth recognising before it ends. 0.1-1 s."""
    speech_without_words_s: float = 0.4
    """A sound that lasted this long is speech even if no words are known at `hold_s`. 0.2-1 s."""
    finishing_s: float = 0.8
    """With no more than this left of a question, a "yes" is its answer. 0-3 s."""
    echo_similarity: float = 85.0
    """Percent of likeness with our own words from which a transcript is our echo. 60-100."""
    no_speech_probability: float = 0.6
    """From here on the recogniser's words are taken as made up. 0-1."""

    def __post_init__(self) -> None:
        if not 0.2 <= self.decision_s <= 1.5:
            raise ValueError(f"decision_s must be 0.2-1.5, not {self.decision_s}")
        if not self.decision_s <= self.hold_s <= 2.0:
            raise ValueError(f"hold_s must be {self.decision_s}-2, not {self.hold_s}")
        if not 60.0 <= self.echo_similarity <= 100.0:
            raise ValueError(f"echo_similarity must be 60-100, not {self.echo_similarity}")


@dataclass(frozen=True, slots=True, kw_only=True)
class AgentSpeech:
    """What we are saying when the sound begins: the words, what they ask for, and how much is left to play."""

    text: str
    remaining_s: float
    expectation: Expectation = field(default_factory=Expectation)
    may_echo: bool = True
    """Whether so much of our voice comes back on this line that the recogniser could read it."""
    language: str = "en"


@dataclass(frozen=True, slots=True, kw_only=True)
class Evidence:
    """What is known of the sound: time since its onset, seconds of it that were speech, whether it goes on, and the
    words, if the recogniser has answered ("" when it heard none)."""

    since_onset_s: float
    spoken_s: float
    is_speaking: bool
    text: str | None = None
    no_speech_probability: float = 0.0


class BargeIn:
    """Arbitration of one sound over one reply; `begin` starts the next."""

    def __init__(self, settings: BargeInSettings | None = None) -> None:
        self._settings = settings or BargeInSettings()
        self._state = BargeInState.IDLE
        self._agent = AgentSpeech(text="", remaining_s=0.0)
        self._finding = Finding.PENDING
        self._has_asked = False

    @property
    def state(self) -> BargeInState:
        """Whether playout is held, went on, or was given up."""
        return self._state

    @property
    def finding(self) -> Finding:
        """What the sound was last taken for (for the record and the metrics)."""
        return self._finding

    def wants_words(self, since_onset_s: float) -> bool:
        """Whether the sound should be recognised now although it goes on; True once a sound."""
        is_due = since_onset_s >= self._settings.ask_words_after_s
        if self._state is not BargeInState.HELD or self._has_asked or not is_due:
            return False
        self._has_asked = True
        return True

    def begin(self, agent: AgentSpeech) -> None:
        """A sound began over `agent`; the playout is being held."""
        self._state, self._agent, self._finding = BargeInState.HELD, agent, Finding.PENDING
        self._has_asked = False

    def end(self) -> None:
        """The reply is over; nothing is left to arbitrate."""
        self._state = BargeInState.IDLE

    def consider(self, evidence: Evidence) -> Verdict:
        """Judge the sound with what is known now; call on every event and at the deadline.

        Raises IllegalBargeInError.
        """
        if self._state is BargeInState.WENT_ON and evidence.text is None:
            return Verdict.UNDECIDED  # once we went on, only words stop us
        finding = classify(evidence, self._agent, self._settings)
        entry = VERDICTS.get((self._state, finding))
        if entry is None:
            raise IllegalBargeInError(f"{finding} cannot be judged while {self._state}")
        self._finding = finding
        self._state, verdict = entry
        return verdict


def classify(evidence: Evidence, agent: AgentSpeech, settings: BargeInSettings) -> Finding:
    """What the sound is, as far as the evidence goes; never PENDING from `hold_s` on."""
    words = words_of(evidence.text or "")
    is_late = evidence.since_onset_s >= settings.decision_s
    is_believed = evidence.no_speech_probability < settings.no_speech_probability
    if words and (is_believed or _is_protected(words, agent.language)):
        return _of_words(words, agent, settings, is_speaking=evidence.is_speaking and not is_late)
    if evidence.text is not None and not evidence.is_speaking:
        return Finding.NOISE
    may_be_speech = evidence.is_speaking or evidence.spoken_s >= settings.speech_without_words_s
    if not is_late or (may_be_speech and evidence.since_onset_s < settings.hold_s):
        return Finding.PENDING
    return Finding.SPEECH if may_be_speech else Finding.NOISE


def _of_words(words: list[str], agent: AgentSpeech, settings: BargeInSettings, *, is_speaking: bool) -> Finding:
    if agent.may_echo and _is_echo(words, agent.text, settings.echo_similarity):
        return Finding.ECHO
    if _is_protected(words, agent.language):
        return Finding.SPEECH
    if len(words) > _BACKCHANNEL_MAX_WORDS or not set(words) <= BACKCHANNELS.get(agent.language, frozenset()):
        return Finding.SPEECH
    if _is_answer(words, agent, settings):
        return Finding.SPEECH
    # "okay" may go on to "okay but ...": wait while there is time.
    return Finding.PENDING if is_speaking else Finding.BACKCHANNEL


def _is_protected(words: list[str], language: str) -> bool:
    return bool(set(words) & PROTECTED.get(language, frozenset()) or digits_in(" ".join(words)))


def _is_answer(words: list[str], agent: AgentSpeech, settings: BargeInSettings) -> bool:
    asks = agent.expectation.kind is AnswerKind.YES_NO
    return asks and agent.remaining_s <= settings.finishing_s and bool(set(words) & _ANSWERS)


def _is_echo(words: list[str], agent_text: str, similarity: float) -> bool:
    """Whether `words` are a stretch of what we say. One word proves nothing: the caller may repeat a choice."""
    if len(words) < 2:
        return False
    return fuzz.partial_ratio(" ".join(words), " ".join(words_of(agent_text))) >= similarity
