"""Percentiles and word error rates are what their definitions say."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bench.statistics import percentile, summarise, total, word_errors
from bench.words import words


def test_percentiles_are_nearest_rank() -> None:
    """The figures of 1..200 are known."""
    summary = summarise([float(value) for value in range(200, 0, -1)])
    assert summary is not None
    assert (summary.p50, summary.p95, summary.p99, summary.max, summary.count) == (100, 190, 198, 200, 200)


@given(st.lists(st.floats(allow_nan=False, allow_infinity=False), min_size=1), st.floats(min_value=0.1, max_value=100))
def test_a_percentile_is_a_sample_with_enough_at_or_below(samples: list[float], percent: float) -> None:
    """Every percentile happened, and at least that share of samples is not above it."""
    value = percentile(samples, percent)
    assert value in samples
    assert sum(sample <= value for sample in samples) >= percent / 100 * len(samples) - 1e-6


def test_nothing_has_no_summary() -> None:
    """No samples, no figures."""
    assert summarise([]) is None


@pytest.mark.parametrize(
    ("said", "heard"),
    [
        ("twenty-five dollars", "$25"),
        ("two hundred and fifty", "250"),
        ("one thousand two hundred ninety nine", "1,299"),
        ("nine thirty a.m.", "9:30 AM"),
        ("nine a.m.", "9:00 AM"),
        ("four two seven seven", "4277"),
        ("forty two seventy seven", "4277"),
        ("zero four oh", "zero four oh"),
        ("I can't, it's OK.", "i can not it is okay"),
        ("the twenty first", "the 21st"),
        ("three hundred and four people and five dogs", "304 people and 5 dogs"),
        ("nineteen ninety nine", "1999"),
        ("Um, mister Hale", "Mr. Hale"),
        ("four point two five percent", "four point two five %"),
        ("Hello", "[noise] hello (coughs)"),
        ("ten twenty thirty", "10 20 30"),
        ("one hundred", "100"),
        ("and so on", "And so on."),
    ],
)
def test_wordings_of_the_same_speech_have_no_errors(said: str, heard: str) -> None:
    """Ways to write the same words compare equal."""
    assert words(said) == words(heard)


def test_errors_are_counted_by_word() -> None:
    """One wrong, one missing and one extra word are three errors of six."""
    errors = word_errors(words("what time do you open today"), words("what dime do you today please"))
    assert (errors.errors, errors.words) == (3, 6)
    assert errors.rate == pytest.approx(0.5)


def test_a_corpus_is_weighted_by_words() -> None:
    """Rates are summed as counts."""
    both = total([word_errors(["a"], ["b"]), word_errors(["a"] * 9, ["a"] * 9)])
    assert both.rate == pytest.approx(0.1)
    assert total([]).rate is None


@given(st.text())
def test_any_text_has_words(text: str) -> None:
    """The normaliser never fails and its words are words or digits."""
    assert all(word.isdigit() or word.isalpha() for word in words(text))
