"""Everything with digits or signs is read as a person would read it."""

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from edge.inference.spoken_text import digit_words, number_words, ordinal_words, spoken, year_words


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("It costs $79.99 today.", "It costs seventy nine dollars and ninety nine cents today."),
        ("$1 and $0.50, $0.01", "one dollar and fifty cents, one cent"),
        ("$1,250", "one thousand two hundred fifty dollars"),
        ("$2 million", "two million dollars"),
        ("£5.01", "five pounds and one penny"),
        ("Order 123456789012.", "Order one two three, four five six, seven eight nine, zero one two."),
        ("Open 24/7", "Open twenty four seven"),
        ("From 9:30 am to 5 p.m.", "From nine thirty a m to five p m."),
        ("at 9:05 and 17:00 and 8:00", "at nine oh five and seventeen hundred and eight o'clock"),
        ("Ends at 8 p.m. sharp", "Ends at eight p m sharp"),
        ("Call 1-800-555-0199.", "Call one, eight zero zero, five five five, zero one nine nine."),
        ("Code AB-1234", "Code A B, one two three four"),
        ("5% or 2.5%", "five percent or two point five percent"),
        ("on 2026-03-01", "on March first, twenty twenty six"),
        ("1,250 items, 2.5 kg", "one thousand two hundred fifty items, two point five kg"),
        ("the 21st and 12th", "the twenty first and twelfth"),
        ("30-60 days", "thirty to sixty days"),
        ("room 007", "room zero zero seven"),
        ("since 1987", "since nineteen eighty seven"),
        ("order #42", "order number forty two"),
        ("mail help@shop.com", "mail help at shop dot com"),
        ("salt & pepper", "salt and pepper"),
        ("Nothing to change here.", "Nothing to change here."),
        ("at 99:99", "at ninety nine:ninety nine"),
    ],
)
def test_text_is_read_properly(text: str, words: str) -> None:
    """One example a rule."""
    assert spoken(text) == words


@example("##0")
@given(st.text(alphabet="ab $€£0123456789.,:-/%#&@AB()\n", max_size=40))
def test_no_digit_or_currency_sign_is_left_and_reading_twice_changes_nothing(text: str) -> None:
    """Whatever comes in, the voice gets words."""
    words = spoken(text)
    assert not any(char.isdigit() for char in words)
    assert spoken(words) == words


@given(st.integers(0, 10**9))
def test_number_words_are_words(number: int) -> None:
    """Cardinals and ordinals of any size have letters only."""
    assert number_words(number).replace(" ", "").isalpha()
    assert ordinal_words(number).replace(" ", "").isalpha()


@given(st.text(alphabet="0123456789", min_size=1, max_size=30))
def test_digits_are_read_one_by_one(digits: str) -> None:
    """As many words as digits, none alone after a breath."""
    words = digit_words(digits)
    assert len(words.replace(",", "").split()) == len(digits)
    assert all(len(group.split()) > 1 for group in words.split(", ")) or len(digits) == 1


@pytest.mark.parametrize(
    ("year", "words"), [(2005, "two thousand five"), (1905, "nineteen oh five"), (2000, "two thousand")]
)
def test_years(year: int, words: str) -> None:
    """Years as people say them."""
    assert year_words(year) == words
