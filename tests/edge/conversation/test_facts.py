"""Facts are read by value, whatever the wording."""

from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge.conversation import spoken
from edge.conversation.facts import Fact, FactKind, amount_in, facts_in, is_stated
from edge.knowledge.numerals import digits_in, with_numerals


@pytest.mark.parametrize(
    ("text", "kind", "value"),
    [
        ("It costs seventy-nine dollars and ninety-nine cents.", FactKind.MONEY, "79.99"),
        ("$79.99", FactKind.MONEY, "79.99"),
        ("$1,149", FactKind.MONEY, "1149.00"),
        ("one hundred and seventy-nine dollars", FactKind.MONEY, "179.00"),
        ("fifty cents", FactKind.MONEY, "0.50"),
        ("two point five percent", FactKind.PERCENT, "2.5"),
        ("9.9%", FactKind.PERCENT, "9.9"),
        ("until 5:30 PM", FactKind.TIME, "5:30 pm"),
        ("until five thirty p.m.", FactKind.TIME, "5:30 pm"),
        ("half past five", FactKind.TIME, "5:30"),
        ("a quarter to nine in the morning", FactKind.TIME, "8:45 am"),
        ("at 17:30", FactKind.TIME, "5:30 pm"),
        ("nine o'clock", FactKind.TIME, "9:00"),
        ("noon", FactKind.TIME, "12:00 pm"),
        ("December twenty-fifth", FactKind.DATE, "12-25"),
        ("January 1st", FactKind.DATE, "01-01"),
        ("ending in four two seven seven", FactKind.NUMBER, "4277"),
        ("order 427719", FactKind.NUMBER, "427719"),
        ("twelve Pier Street", FactKind.NUMBER, "12"),
        ("oh four double seven", FactKind.NUMBER, "0477"),
    ],
)
def test_a_fact_is_read_by_value(text: str, kind: FactKind, value: str) -> None:
    """Numerals and number words state the same fact."""
    assert facts_in(text) == {Fact(kind=kind, value=value)}


@pytest.mark.parametrize("text", ["This one, please.", "One moment.", "No facts here.", "", "...", "$"])
def test_small_words_are_not_facts(text: str) -> None:
    """ "One" as a pronoun states nothing."""
    assert facts_in(text) == frozenset()


def test_a_time_without_morning_or_evening_agrees_with_both() -> None:
    """ "Half past five" may be the 5:30 PM of the passage, but not its 6:30 PM."""
    stated = facts_in("We close at 5:30 PM.")
    assert all(is_stated(fact, stated) for fact in facts_in("half past five"))
    assert not any(is_stated(fact, stated) for fact in facts_in("half past six"))
    assert not any(is_stated(fact, stated) for fact in facts_in("5:30 AM"))


@given(st.integers(min_value=2, max_value=99_999_999))
def test_every_count_spoken_is_read_back(value: int) -> None:
    """What `spoken` says, `facts` reads as the same number."""
    assert {Decimal(fact.value) for fact in facts_in(f"We have {spoken.count(value)} of them")} == {Decimal(value)}


@given(st.decimals(min_value=Decimal("0.01"), max_value=Decimal("99999.99"), places=2))
def test_every_price_spoken_is_read_back(value: Decimal) -> None:
    """A price survives being said."""
    assert facts_in(spoken.money(value)) == {Fact(kind=FactKind.MONEY, value=f"{value:.2f}")}


@given(st.from_regex(r"[0-9]{2,12}", fullmatch=True))
def test_every_dictation_is_read_back(digits: str) -> None:
    """Digits survive being said one by one, leading zeros too."""
    assert digits_in(spoken.digits(digits)) == digits


@given(st.text())
def test_any_text_has_facts_or_none(text: str) -> None:
    """Whatever a recogniser writes is read without an error."""
    facts_in(text)
    with_numerals(text)
    amount_in(text)


@pytest.mark.parametrize(
    ("text", "amount"),
    [
        ("two hundred fifty dollars", "250"),
        ("two hundred and fifty dollars and thirty cents", "250.30"),
        ("$4,277.09", "4277.09"),
        ("$3 million", "3000000"),
        ("twelve hundred dollars", "1200"),
        ("I'd like to pay 40 dollars", "40"),
        ("a thousand dollars", "1000"),
        ("fifty cents", "0.50"),
        ("five point five", "5.5"),
        ("a hundred and five euros", "105"),
    ],
)
def test_amounts(text: str, amount: str) -> None:
    """Amounts as callers say them."""
    assert amount_in(text) == Decimal(amount)


def test_no_amount() -> None:
    """No number, no amount."""
    assert amount_in("I don't know") is None
