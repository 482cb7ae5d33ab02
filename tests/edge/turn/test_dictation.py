"""Spoken and pressed numbers."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge.turn.dictation import digits_in, expected_digits_in

WORDS = ["zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine"]


@pytest.mark.parametrize(
    ("text", "digits"),
    [
        ("four two double seven oh nine", "427709"),
        ("four, two, seven.", "427"),
        ("427 709", "427709"),
        ("$4,277.09", "427709"),
        ("4 2 7-7", "4277"),
        ("42, 77", "4277"),
        ("forty two", "42"),
        ("Forty-two seventy-seven", "4277"),
        ("one hundred", "100"),
        ("one hundred and five", "105"),
        ("triple five", "555"),
        ("double 7 3", "773"),
        ("one eight hundred five five five one two one two", "18005551212"),
        ("two thousand twenty four", "2024"),
        ("nineteen eighty four", "1984"),
        ("five thousand one hundred twenty three", "5123"),
        ("my number is for two seven seven", "4277"),
        ("four two, um, seven seven", "4277"),
        ("oh oh seven", "007"),
        ("Oh, it's four two seven", "427"),
        ("It's 555-1234.", "5551234"),
        ("two people to the party", "2"),
        ("the 2nd of May", ""),
        ("I want to talk to someone", ""),
        ("hello", ""),
        ("", ""),
    ],
)
def test_digits_are_read_however_they_are_written(text: str, digits: str) -> None:
    """What callers say and recognisers make of it."""
    assert digits_in(text) == digits


@pytest.mark.parametrize(
    ("text", "wanted", "digits"),
    [
        ("2A.", 4, "28"),
        ("to ate", 4, "28"),
        ("for won", 2, "41"),
        ("oh tree niner", 3, "039"),
        ("7a 8 7 6 2", 6, "788762"),
        ("3.02. 917", 6, "302917"),
        ("4:27", 4, "427"),
        ("No, its 1 9 4 5.", 4, "1945"),
        ("no, it's 1945", 4, "1945"),
        ("double seven sex o", 4, "7760"),
        ("the last four digits are 3 0 6 6", 4, "3066"),
        ("5 5 5 5 2 1 3 4 4 7 8", 10, "5552134478"),
        ("8 5 3 2 2 0. 8 5 3 2 2 0.", 6, "853220"),
        ("What does a new one cost?", 4, ""),
        ("I have two of them", 4, ""),
        ("for what", 4, ""),
        ("not for me", 4, ""),
    ],
)
def test_what_sounds_like_a_digit_is_one_where_digits_are_expected(text: str, wanted: int, digits: str) -> None:
    """Homophones, glued letters and numbers said twice; questions stay questions."""
    assert expected_digits_in(text, wanted) == digits


@given(st.text(alphabet="0123456789 abeort", max_size=40), st.integers(1, 12))
def test_expected_digits_are_digits(text: str, wanted: int) -> None:
    """Whatever was heard."""
    found = expected_digits_in(text, wanted)
    assert found.isdecimal() or not found


@given(st.text(alphabet="0123456789", min_size=1, max_size=16), st.sampled_from([" ", ", ", "-", ". "]))
def test_single_digits_survive_any_separator(digits: str, separator: str) -> None:
    """Digit words and numerals give back the same digits."""
    assert digits_in(separator.join(WORDS[int(digit)] for digit in digits)) == digits
    assert digits_in(separator.join(digits)) == digits


@given(st.text(max_size=80))
def test_any_text_is_read_without_failing(text: str) -> None:
    """Recognisers write anything."""
    assert digits_in(text).isdecimal() or digits_in(text) == ""


@given(st.lists(st.sampled_from([*WORDS, "hundred", "thousand", "and", "double", "forty", "ten", "oh", "to", "7"])))
def test_any_row_of_number_words_is_read_without_failing(words: list[str]) -> None:
    """Nonsense numbers give some digits or none."""
    digits_in(" ".join(words))
