"""Is the caller's turn over? How much silence it takes, given the words, the question, and this caller's own habits.

Pure arithmetic on silences: `required_silence_s` says how long the caller must have been silent for the words heard so
far. The order of evidence:

1. What the question expects: the exact number of digits, a yes or no, one of the choices ends the turn at once; fewer
   digits wait for the next group.
2. Words that lead on ("and", "my number is") wait, whatever the conversation made of them.
3. `is_complete` from the conversation: the words make a whole request.
4. Otherwise the pauses this caller makes inside turns.

Every wait has a cap. A turn that was committed too early teaches: this caller gets more time from then on.
"""

from dataclasses import asdict, dataclass

from edge.conversation.dialogue import AnswerKind, Expectation
from edge.turn.completeness import YES_NO_WORDS, Completeness, completeness_of, is_sentence
from edge.turn.dictation import expected_digits_in
from edge.turn.words import words_of

_ANYTHING = Expectation()


@dataclass(frozen=True, slots=True, kw_only=True)
class EndpointingSettings:
    """Silences in seconds. Response latency at the ear is about the required silence plus 0.1 s."""

    answered_s: float = 0.12
    """The expected answer is there: exact digits, yes or no, a choice. 0.06-0.5."""
    complete_s: float = 0.18
    """A whole request. 0.1-1. Shorter than a breath between sentences; a caller who goes on is merged."""
    unsettled_s: float = 0.32
    """A whole request that was not written as a whole sentence. 0.1-1."""
    closed_share: float = 0.75
    """Share of an open turn's wait that a whole sentence takes of which nothing could be made. 0.3-1."""
    open_s: float = 0.6
    """Words that may or may not be all. 0.2-1.5; moves with the caller's own pauses."""
    unfinished_s: float = 0.8
    """Words that lead on. 0.4-2."""
    unheard_s: float = 0.7
    """No words recognised yet. 0.3-2."""
    digit_group_s: float = 0.7
    """Some digits of an expected number: people pause between groups. 0.5-3."""
    cap_s: float = 1.6
    """No silence is waited for longer. 0.5-3."""
    digits_cap_s: float = 2.5
    """The same when digits are expected: the caller may be reading a card. 0.5-6."""
    pause_margin: float = 1.4
    """An open turn waits this many times the caller's usual pause. 1-3."""
    premature_step_s: float = 0.1
    """Added for the rest of the call each time the caller went on after we had decided. 0-0.5."""
    premature_limit_s: float = 0.3
    """At most this much is added. 0-1."""
    speculate_after_s: float = 0.064
    """Pause that starts recognition on an idle node. 0.03-0.5."""
    speculate_after_loaded_s: float = 0.16
    """The same on a fully loaded node: fewer recognitions are thrown away. 0.03-0.5."""

    def __post_init__(self) -> None:
        ranges = {
            "answered_s": (0.06, 0.5), "complete_s": (0.1, 1.0), "unsettled_s": (0.1, 1.0),
            "closed_share": (0.3, 1.0), "open_s": (0.2, 1.5), "unfinished_s": (0.4, 2.0),
            "unheard_s": (0.3, 2.0), "digit_group_s": (0.5, 3.0), "cap_s": (0.5, 3.0), "digits_cap_s": (0.5, 6.0),
            "pause_margin": (1.0, 3.0), "premature_step_s": (0.0, 0.5), "premature_limit_s": (0.0, 1.0),
            "speculate_after_s": (0.03, 0.5), "speculate_after_loaded_s": (0.03, 0.5),
        }  # fmt: skip
        values = asdict(self)
        for name, (low, high) in ranges.items():
            if not low <= values[name] <= high:
                raise ValueError(f"{name} must be {low}-{high}, not {values[name]}")


class Endpointer:
    """The decision for one call, with what it learnt about its caller."""

    _LEARNING_RATE = 0.3
    # A gap shorter than this is a stop consonant, not a pause between phrases.
    _SHORTEST_PAUSE_S = 0.15

    def __init__(self, settings: EndpointingSettings | None = None) -> None:
        self._settings = settings or EndpointingSettings()
        self._usual_pause_s = self._settings.open_s / self._settings.pause_margin
        self._patience_s = 0.0

    @property
    def usual_pause_s(self) -> float:
        """This caller's pauses within turns (moving average)."""
        return self._usual_pause_s

    def resumed_after(self, pause_s: float) -> None:
        """Learn from a pause after which the caller went on (`SpeechResumed.pause_s`)."""
        if pause_s >= self._SHORTEST_PAUSE_S:
            self._usual_pause_s += self._LEARNING_RATE * (pause_s - self._usual_pause_s)

    def decided_too_early(self) -> None:
        """Learn that the caller went on after the turn was committed (`MERGE_UTTERANCE`)."""
        settings = self._settings
        self._patience_s = min(settings.premature_limit_s, self._patience_s + settings.premature_step_s)

    def speculation_silence_s(self, load: float) -> float:
        """Pause that should start recognition when the node is loaded to `load` (0 idle, 1 full)."""
        settings = self._settings
        # Below half load a recognition thrown away costs nobody anything.
        share = min(1.0, max(0.0, 2.0 * load - 1.0))
        return settings.speculate_after_s + share * (settings.speculate_after_loaded_s - settings.speculate_after_s)

    def longest_wait_s(self, expectation: Expectation) -> float:
        """Silence that ends the turn whatever was or was not recognised."""
        is_dictation = expectation.kind is AnswerKind.DIGITS
        return self._settings.digits_cap_s if is_dictation else self._settings.cap_s

    def required_silence_s(
        self,
        text: str | None,
        *,
        is_complete: bool = False,
        expectation: Expectation = _ANYTHING,
        pressed_digits: str = "",
    ) -> float:
        """Silence after which the turn is over.

        `text`: the words of the open utterance up to this pause, None until they are recognised; `is_complete` is that
        of the conversation's `Reply`; `pressed_digits`: DTMF digits of the same answer that `text` does not contain.
        """
        cap_s = self.longest_wait_s(expectation)
        if text is None and not pressed_digits:
            return min(cap_s, max(self._settings.unheard_s, self._open_s()))
        if expectation.kind is AnswerKind.DIGITS:
            given = len(pressed_digits) + len(expected_digits_in(text or "", expectation.digits))
            if given:
                return min(cap_s, self._digits_silence_s(given, expectation.digits))
            # They ask something, or have no number at hand.
        return min(cap_s, self._words_silence_s(text or "", expectation, is_complete=is_complete))

    def _digits_silence_s(self, given: int, wanted: int | None) -> float:
        settings = self._settings
        if wanted is None or given < wanted:
            return settings.digit_group_s + self._patience_s
        return settings.answered_s if given == wanted else settings.complete_s + self._patience_s

    def _words_silence_s(self, text: str, expectation: Expectation, *, is_complete: bool) -> float:
        settings = self._settings
        completeness = completeness_of(text)
        if completeness is Completeness.NOTHING:
            return max(settings.unheard_s, self._open_s())
        if completeness is Completeness.ANSWERED and expectation.kind is AnswerKind.YES_NO:
            return settings.answered_s
        if _answers(text, expectation) and completeness is not Completeness.UNFINISHED:
            return settings.answered_s + self._patience_s
        if completeness is Completeness.UNFINISHED:
            return settings.unfinished_s + self._patience_s
        if is_complete:
            # Without a full stop the recogniser itself thinks that more will come.
            settled_s = settings.complete_s if is_sentence(text) else settings.unsettled_s
            return settled_s + self._patience_s
        return self._open_s() * (settings.closed_share if is_sentence(text) else 1.0)

    def _open_s(self) -> float:
        settings = self._settings
        longest = max(settings.open_s, settings.unfinished_s)
        habit = settings.pause_margin * self._usual_pause_s + self._patience_s
        return min(longest, max(0.5 * settings.open_s, habit))


def _answers(text: str, expectation: Expectation) -> bool:
    words = words_of(text)
    if expectation.kind is AnswerKind.YES_NO:
        return words[0] in YES_NO_WORDS
    if expectation.kind is AnswerKind.CHOICE:
        said = f" {' '.join(words)} "
        return any(f" {' '.join(words_of(choice))} " in said for choice in expectation.choices)
    return False
