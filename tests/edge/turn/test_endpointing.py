"""How much silence ends a turn."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge.conversation.dialogue import AnswerKind, Expectation
from edge.turn.completeness import Completeness, completeness_of
from edge.turn.endpointing import Endpointer, EndpointingSettings

SIX_DIGITS = Expectation(kind=AnswerKind.DIGITS, digits=6)
YES_NO = Expectation(kind=AnswerKind.YES_NO)
CHOICE = Expectation(kind=AnswerKind.CHOICE, choices=("small", "extra large"))
OPEN = Expectation()


@pytest.mark.parametrize(
    ("text", "completeness"),
    [
        ("I want to cancel my order and", Completeness.UNFINISHED),
        ("I'd like to book a table for", Completeness.UNFINISHED),
        ("How do I reset the", Completeness.UNFINISHED),
        ("I want to...", Completeness.UNFINISHED),
        ("My number is", Completeness.UNFINISHED),
        ("Hello, my number is.", Completeness.UNFINISHED),
        ("Um,", Completeness.UNFINISHED),
        ("No, but", Completeness.UNFINISHED),
        ("Hold on.", Completeness.UNFINISHED),
        ("Yes.", Completeness.ANSWERED),
        ("No, thank you.", Completeness.ANSWERED),
        ("Yes, it is.", Completeness.ANSWERED),
        ("What are your opening hours?", Completeness.OPEN),
        ("Is this what you are looking for?", Completeness.OPEN),
        ("Tell me about the refund policy.", Completeness.OPEN),
        ("", Completeness.NOTHING),
        ("...", Completeness.NOTHING),
    ],
)
def test_words_sound_finished_or_not(text: str, completeness: Completeness) -> None:
    """Trailing words, hesitation and punctuation tell."""
    assert completeness_of(text) is completeness


def test_a_complete_request_needs_under_200_ms() -> None:
    """This is what the response latency rests on."""
    assert Endpointer().required_silence_s("What are your hours?", is_complete=True) <= 0.2


def test_words_that_lead_on_wait_even_if_the_conversation_found_a_request() -> None:
    """ "Cancel my order and" is a request and yet unfinished."""
    endpointer = Endpointer()
    assert 0.8 <= endpointer.required_silence_s("Cancel my order and", is_complete=True) <= 1.2


def test_the_exact_number_of_digits_ends_the_turn_and_fewer_wait() -> None:
    """Spoken and pressed digits count together."""
    endpointer = Endpointer()
    enough = endpointer.required_silence_s("four two double seven oh nine", expectation=SIX_DIGITS)
    mixed = endpointer.required_silence_s("four two", expectation=SIX_DIGITS, pressed_digits="7709")
    fewer = endpointer.required_silence_s("four two seven", expectation=SIX_DIGITS)
    assert enough == mixed <= 0.15
    assert 0.6 <= fewer <= 2.5


def test_a_question_instead_of_digits_is_treated_as_words() -> None:
    """Who has no number at hand does not wait for the digits' time."""
    endpointer = Endpointer()
    assert endpointer.required_silence_s("I don't have it.", is_complete=True, expectation=SIX_DIGITS) <= 0.2


@pytest.mark.parametrize(
    ("text", "expectation"), [("Yes.", YES_NO), ("no thanks", YES_NO), ("Extra large, please.", CHOICE)]
)
def test_the_expected_answer_ends_the_turn(text: str, expectation: Expectation) -> None:
    """Yes, no and choices need no more than the recogniser's time."""
    assert Endpointer().required_silence_s(text, expectation=expectation) <= 0.15


def test_a_yes_that_leads_on_waits() -> None:
    """ "Yes, but" is no answer yet."""
    assert Endpointer().required_silence_s("Yes, but", expectation=YES_NO) >= 0.8


def test_a_caller_who_pauses_long_gets_more_time_and_a_quick_one_less() -> None:
    """Open turns follow this caller's own pauses."""
    slow, quick = Endpointer(), Endpointer()
    for _ in range(6):
        slow.resumed_after(0.8)
        quick.resumed_after(0.2)
    normal = Endpointer().required_silence_s("It broke yesterday.")
    assert quick.required_silence_s("It broke yesterday.") < normal < slow.required_silence_s("It broke yesterday.")


def test_a_premature_decision_makes_us_patient_within_limits() -> None:
    """Each one adds a step, up to the limit."""
    endpointer = Endpointer()
    before = endpointer.required_silence_s("Cancel it.", is_complete=True)
    for _ in range(10):
        endpointer.decided_too_early()
    assert endpointer.required_silence_s("Cancel it.", is_complete=True) == pytest.approx(before + 0.3)


def test_load_delays_speculation() -> None:
    """An idle node guesses early, a loaded one saves the recogniser."""
    endpointer = Endpointer()
    assert endpointer.speculation_silence_s(0.0) == endpointer.speculation_silence_s(0.5) == 0.064
    assert endpointer.speculation_silence_s(1.0) == endpointer.speculation_silence_s(3.0) == 0.16


@given(
    text=st.one_of(st.none(), st.text(max_size=40)),
    is_complete=st.booleans(),
    expectation=st.sampled_from([OPEN, YES_NO, CHOICE, SIX_DIGITS, Expectation(kind=AnswerKind.DIGITS)]),
    pauses=st.lists(st.floats(0, 20), max_size=10),
)
def test_every_wait_is_capped(
    *, text: str | None, is_complete: bool, expectation: Expectation, pauses: list[float]
) -> None:
    """Whatever was said and learnt, no silence lasts longer than the cap."""
    endpointer = Endpointer()
    for pause_s in pauses:
        endpointer.resumed_after(pause_s)
        endpointer.decided_too_early()
    required_s = endpointer.required_silence_s(text, is_complete=is_complete, expectation=expectation)
    assert 0.06 <= required_s <= endpointer.longest_wait_s(expectation) <= 2.5


def test_settings_out_of_range_are_refused() -> None:
    """The message names the setting."""
    with pytest.raises(ValueError, match="complete_s must be"):
        EndpointingSettings(complete_s=18.0)
