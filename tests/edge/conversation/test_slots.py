"""Answers are read for the question that was asked."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge.conversation.agent import Choice, Slot, SlotKind
from edge.conversation.slots import fill, likely_yes_or_no, yes_or_no

CARD = Slot(name="card", kind=SlotKind.DIGITS, digits=4)
KIND = Slot(
    name="kind",
    kind=SlotKind.CHOICE,
    choices=(Choice(value="debit card", words=("debit",)), Choice(value="credit card", words=("credit", "visa"))),
)
AMOUNT = Slot(name="amount", kind=SlotKind.AMOUNT)


@pytest.mark.parametrize(
    "text",
    ["4277", "four two seven seven", "It's four two, seven seven.", "42 77", "4-2-7-7", "for two seven seven",
     "forty-two seventy-seven", "4278, no sorry, 4277", "my card ends in 4277"],
)  # fmt: skip
def test_digits_are_read_however_they_are_said(text: str) -> None:
    """Words, numerals, homophones and corrections all give 4277."""
    filled = fill(CARD, text)
    assert filled is not None
    assert (filled.value, filled.is_whole) == ("4277", True)


def test_half_the_digits_wait_for_the_rest() -> None:
    """ "Four two" ... "seven seven" is one number."""
    first = fill(CARD, "four two")
    assert first is not None
    assert not first.is_whole
    second = fill(CARD, "seven seven", first.value)
    assert second is not None
    assert (second.value, second.is_whole) == ("4277", True)


@pytest.mark.parametrize("text", ["427719", "I don't know", "why do you ask", ""])
def test_other_answers_are_not_digits(text: str) -> None:
    """Too many digits or none are not guessed at."""
    assert fill(CARD, text) is None


@given(st.text(max_size=60))
def test_digits_are_never_invented(text: str) -> None:
    """A whole value has exactly the wanted digits."""
    filled = fill(CARD, text)
    assert filled is None or not filled.is_whole or len(filled.value) == 4


@pytest.mark.parametrize(
    ("text", "answer"),
    [
        ("Yes.", True), ("yeah sure", True), ("That's right", True), ("Of course.", True), ("uh huh", True),
        ("No.", False), ("nope", False), ("no thank you", False), ("That is wrong", False), ("not correct", False),
        ("maybe", None), ("what does it cost", None), ("", None), ("no, that's right", None),
    ],
)  # fmt: skip
def test_yes_and_no(text: str, answer: bool | None) -> None:  # noqa: FBT001
    """Unclear answers are neither."""
    assert yes_or_no(text) is answer


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("debit", "debit card"),
        ("It's a Visa.", "credit card"),
        ("Okay, dub it.", "debit card"),
        ("Debbie card", "debit card"),
        ("debts cart", "debit card"),
        ("Ebiza.", "credit card"),
        ("the green one", None),
        ("I don't know", None),
        ("what does a card cost", None),
    ],
)
def test_choices(text: str, value: str | None) -> None:
    """A choice is taken by any of its words."""
    filled = fill(KIND, text)
    assert (filled.value if filled is not None else None) == value


DAY = Slot(
    name="day",
    kind=SlotKind.CHOICE,
    choices=tuple(Choice(value=day) for day in ("Monday", "Tuesday", "Wednesday", "Thursday", "Friday")),
)


@pytest.mark.parametrize(("text", "value"), [("Wensday", "Wednesday"), ("Fry day.", "Friday"), ("Sunday", None)])
def test_another_word_is_not_the_nearest_choice(text: str, value: str | None) -> None:
    """Sunday is no misheard Monday."""
    filled = fill(DAY, text)
    assert (filled.value if filled is not None else None) == value


@pytest.mark.parametrize(("text", "answer"), [("Yet.", True), ("know", False), ("yet another question", None)])
def test_an_answer_of_one_word_may_be_misheard(text: str, answer: bool | None) -> None:  # noqa: FBT001
    """ "Yet" confirms, but does not consent."""
    assert likely_yes_or_no(text) is answer
    assert yes_or_no("yet") is None


def test_a_second_half_said_twice_is_one_half() -> None:
    """ "Two eight" ... "6 1 6 1" is 2861."""
    filled = fill(CARD, "6 1 6 1", "28")
    assert filled is not None
    assert filled.value == "2861"


def test_an_amount_must_be_alone() -> None:
    """Two amounts are none."""
    filled = fill(AMOUNT, "two hundred and fifty dollars please")
    assert filled is not None
    assert filled.value == "250.00"
    assert fill(AMOUNT, "fifty or sixty dollars") is None
