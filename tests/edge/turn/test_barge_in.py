"""Arbitration of sounds over our speech."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge.conversation.dialogue import AnswerKind, Expectation
from edge.turn.barge_in import (
    VERDICTS,
    AgentSpeech,
    BargeIn,
    BargeInSettings,
    BargeInState,
    Evidence,
    Finding,
    IllegalBargeInError,
    Verdict,
)

HOURS = AgentSpeech(text="Our opening hours are nine to five on weekdays.", remaining_s=2.0)
QUESTION = AgentSpeech(
    text="So that is one large coffee, is that right?",
    remaining_s=0.4,
    expectation=Expectation(kind=AnswerKind.YES_NO),
)


def judged(agent: AgentSpeech, *evidence: Evidence) -> tuple[Verdict, Finding]:
    barge_in = BargeIn()
    barge_in.begin(agent)
    verdicts = [barge_in.consider(item) for item in evidence]
    return verdicts[-1], barge_in.finding


def words(text: str, *, is_speaking: bool = False, no_speech_probability: float = 0.1) -> Evidence:
    return Evidence(
        since_onset_s=0.35,
        spoken_s=0.25,
        is_speaking=is_speaking,
        text=text,
        no_speech_probability=no_speech_probability,
    )


@pytest.mark.parametrize("text", ["uh-huh", "Mm-hmm.", "okay", "Right.", "Yeah, okay.", "I see."])
def test_backchannels_do_not_stop_us(text: str) -> None:
    """ "Go on" means go on."""
    assert judged(HOURS, words(text)) == (Verdict.RESUME, Finding.BACKCHANNEL)


@pytest.mark.parametrize(
    "text", ["Yes.", "no", "Stop!", "wait", "Hello?", "four", "What about Sunday?", "okay but why"]
)
def test_short_answers_and_requests_stop_us(text: str) -> None:
    """However short, they are meant for us."""
    assert judged(HOURS, words(text)) == (Verdict.FLUSH, Finding.SPEECH)


@pytest.mark.parametrize("text", ["yeah", "okay", "right"])
def test_a_yes_to_the_question_we_are_finishing_is_an_answer(text: str) -> None:
    """The same word in the middle of a telling is not."""
    assert judged(QUESTION, words(text)) == (Verdict.FLUSH, Finding.SPEECH)


def test_okay_that_goes_on_is_waited_for() -> None:
    """ "Okay ..." may become "okay but ..."."""
    assert judged(HOURS, words("okay", is_speaking=True))[0] is Verdict.UNDECIDED


def test_our_own_words_coming_back_are_echo() -> None:
    """Unless the line has no echo: then the caller repeats us, which is speech."""
    assert judged(HOURS, words("opening hours are nine")) == (Verdict.RESUME, Finding.ECHO)
    clean = AgentSpeech(text=HOURS.text, remaining_s=2.0, may_echo=False)
    assert judged(clean, words("opening hours are nine"))[0] is Verdict.FLUSH


def test_a_sound_without_words_is_noise() -> None:
    """The recogniser found nothing, or made something up."""
    assert judged(HOURS, words("")) == (Verdict.RESUME, Finding.NOISE)
    assert judged(HOURS, words("Thank you.", no_speech_probability=0.9)) == (Verdict.RESUME, Finding.NOISE)
    assert judged(HOURS, words("Stop.", no_speech_probability=0.9)) == (Verdict.FLUSH, Finding.SPEECH)


def test_a_cough_without_transcript_resumes_at_the_deadline() -> None:
    """Undecided before, noise at 500 ms."""
    early = Evidence(since_onset_s=0.3, spoken_s=0.2, is_speaking=False)
    late = Evidence(since_onset_s=0.5, spoken_s=0.2, is_speaking=False)
    assert judged(HOURS, early)[0] is Verdict.UNDECIDED
    assert judged(HOURS, early, late) == (Verdict.RESUME, Finding.NOISE)


def test_a_sound_that_lasts_is_speech_at_the_deadline() -> None:
    """No transcript needed to let a talking caller talk."""
    late = Evidence(since_onset_s=0.8, spoken_s=0.8, is_speaking=True)
    assert judged(HOURS, late) == (Verdict.FLUSH, Finding.SPEECH)


def test_an_uh_huh_of_half_a_second_is_waited_for() -> None:
    """Its words come 150 ms after it ends; the reply is not lost for want of them."""
    lasting = Evidence(since_onset_s=0.5, spoken_s=0.5, is_speaking=True)
    ended = Evidence(since_onset_s=0.6, spoken_s=0.52, is_speaking=False)
    recognised = Evidence(since_onset_s=0.7, spoken_s=0.52, is_speaking=False, text="Uh-huh.")
    assert judged(HOURS, lasting, ended)[0] is Verdict.UNDECIDED
    assert judged(HOURS, lasting, ended, recognised) == (Verdict.RESUME, Finding.BACKCHANNEL)


def test_the_beginning_of_a_lasting_sound_is_recognised_once() -> None:
    """Its first words decide before it ends."""
    barge_in = BargeIn()
    assert not barge_in.wants_words(0.4)
    barge_in.begin(HOURS)
    assert [barge_in.wants_words(seconds) for seconds in (0.1, 0.3, 0.4)] == [False, True, False]
    assert barge_in.consider(words("I wanted", is_speaking=True)) is Verdict.FLUSH


def test_words_that_come_late_still_win() -> None:
    """Resumed at the deadline, then "stop" is recognised: we stop."""
    late = Evidence(since_onset_s=0.5, spoken_s=0.25, is_speaking=False)
    recognised = Evidence(since_onset_s=0.8, spoken_s=0.25, is_speaking=False, text="Stop.")
    assert judged(HOURS, late, recognised)[0] is Verdict.FLUSH


def test_once_we_went_on_only_words_stop_us() -> None:
    """A long "mm-hmm" is not reconsidered for its length."""
    hummed = Evidence(since_onset_s=0.4, spoken_s=0.45, is_speaking=False, text="Mm-hmm.")
    later = Evidence(since_onset_s=0.7, spoken_s=0.45, is_speaking=False)
    assert judged(HOURS, hummed, later) == (Verdict.UNDECIDED, Finding.BACKCHANNEL)


def test_the_table_is_total_while_a_sound_is_judged() -> None:
    """Every finding has a verdict while held and after."""
    for state in (BargeInState.HELD, BargeInState.WENT_ON):
        for finding in Finding:
            assert (state, finding) in VERDICTS


def test_judging_nothing_raises_and_changes_nothing() -> None:
    """Evidence before a sound began is a defect of the caller."""
    barge_in = BargeIn()
    with pytest.raises(IllegalBargeInError):
        barge_in.consider(words("stop"))
    assert barge_in.state is BargeInState.IDLE


@given(
    text=st.one_of(st.none(), st.text(max_size=30), st.sampled_from(["okay", "uh-huh", "stop", "opening hours are"])),
    is_speaking=st.booleans(),
    spoken_s=st.floats(0, 3),
    no_speech=st.floats(0, 1),
)
def test_nothing_is_undecided_at_the_deadline(
    *, text: str | None, is_speaking: bool, spoken_s: float, no_speech: float
) -> None:
    """Playout is never left held."""
    evidence = Evidence(
        since_onset_s=BargeInSettings().hold_s,
        spoken_s=spoken_s,
        is_speaking=is_speaking,
        text=text,
        no_speech_probability=no_speech,
    )
    assert judged(HOURS, evidence)[0] is not Verdict.UNDECIDED
