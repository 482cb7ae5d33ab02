"""Reads the facts out of a text: prices, numbers, times, dates, however they are worded.

Judges answers: a generated sentence may only state facts of its passage (`grounding`), a scenario compares facts by
value. Pure; knows nothing of dialogues.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from decimal import Decimal
from enum import StrEnum

from edge.knowledge.numerals import Clock, Number, Token, read_numbers

_ORDINALS = {
    "first": 1, "second": 2, "third": 3, "fourth": 4, "fifth": 5, "sixth": 6, "seventh": 7, "eighth": 8, "ninth": 9,
    "tenth": 10, "eleventh": 11, "twelfth": 12, "thirteenth": 13, "fourteenth": 14, "fifteenth": 15,
    "sixteenth": 16, "seventeenth": 17, "eighteenth": 18, "nineteenth": 19, "twentieth": 20, "thirtieth": 30,
}  # fmt: skip
_MONTHS = {
    "january": 1, "february": 2, "march": 3, "april": 4, "may": 5, "june": 6, "july": 7, "august": 8, "september": 9,
    "october": 10, "november": 11, "december": 12,
}  # fmt: skip


# "$3 million"; numbers in words carry their scale already.
_SCALES = {"thousand": 1_000, "million": 1_000_000}
_RELATIVE_MINUTES = {("half", "past"): 30, ("quarter", "past"): 15, ("quarter", "to"): -15}


class FactKind(StrEnum):
    """What a fact measures."""

    NUMBER = "number"
    MONEY = "money"
    PERCENT = "percent"
    TIME = "time"
    DATE = "date"


@dataclass(frozen=True, slots=True, kw_only=True)
class Fact:
    """A value a text states. `value`: digits as said for NUMBER, decimal dollars for MONEY, `h:mm`, `h:mm am` or
    `h:mm pm` for TIME, `mm-dd` for DATE."""

    kind: FactKind
    value: str


def facts_in(text: str) -> frozenset[Fact]:
    """Return every price, number, time and date that the text states."""
    items = read_numbers(text)
    found: set[Fact] = set()
    position = 0
    while position < len(items):
        fact, used = _fact_at(items, position)
        if fact is not None:
            found.add(fact)
        position += used
    return frozenset(found)


def is_stated(fact: Fact, facts: Iterable[Fact]) -> bool:
    """Whether `fact` is among `facts`; "half past five" states 5:30 PM, a number of dollars also its number."""
    return any(_agrees(fact, other) for other in facts)


def amount_in(text: str) -> Decimal | None:
    """Return the amount of money (or plain number) in the text, if there is exactly one."""
    facts = [fact for fact in facts_in(text) if fact.kind in {FactKind.MONEY, FactKind.NUMBER}]
    return Decimal(facts[0].value) if len(facts) == 1 else None


def _agrees(one: Fact, other: Fact) -> bool:
    if one == other:
        return True
    kinds = {one.kind, other.kind}
    if kinds == {FactKind.TIME}:
        clock, other_clock = one.value.split(), other.value.split()
        return clock[0] == other_clock[0] and (len(clock) == 1 or len(other_clock) == 1)
    if kinds == {FactKind.NUMBER}:
        return Decimal(one.value) == Decimal(other.value)
    if kinds in ({FactKind.NUMBER, FactKind.MONEY}, {FactKind.NUMBER, FactKind.PERCENT}):
        return Decimal(one.value) == Decimal(other.value)
    return False


def _fact_at(items: list[Token], position: int) -> tuple[Fact | None, int]:
    for reader in (_time_at, _money_at, _date_at):
        fact, used = reader(items, position)
        if fact is not None:
            return fact, used
    item = items[position]
    if not isinstance(item, Number):
        return None, 1
    if _word(items, position + 1) in {"%", "percent"}:
        return Fact(kind=FactKind.PERCENT, value=_plain(item.value)), 2
    # "this one", "one moment": too common to be a fact.
    if item.is_word and item.value == 1:
        return None, 1
    return Fact(kind=FactKind.NUMBER, value=item.digits if "." not in str(item.value) else _plain(item.value)), 1


def _money_at(items: list[Token], position: int) -> tuple[Fact | None, int]:
    if items[position] == "$" and (amount := _number(items, position + 1)) is not None:
        scale = _SCALES.get(_word(items, position + 2))
        return Fact(kind=FactKind.MONEY, value=_cents(amount * (scale or 1))), 3 if scale else 2
    amount = _number(items, position)
    if amount is None:
        return None, 0
    unit = _word(items, position + 1)
    if unit in {"cent", "cents"}:
        return Fact(kind=FactKind.MONEY, value=_cents(amount / 100)), 2
    if unit not in {"dollar", "dollars", "bucks"}:
        return None, 0
    after = position + 3 if _word(items, position + 2) == "and" else position + 2
    cents = _number(items, after)
    if cents is not None and cents < 100 and _word(items, after + 1) in {"cent", "cents"}:
        return Fact(kind=FactKind.MONEY, value=_cents(amount + cents / 100)), after + 2 - position
    return Fact(kind=FactKind.MONEY, value=_cents(amount)), 2


def _time_at(items: list[Token], position: int) -> tuple[Fact | None, int]:
    item = items[position]
    if item in {"noon", "midday", "midnight"}:
        return _time(12, 0, "am" if item == "midnight" else "pm"), 1
    if isinstance(item, Clock):
        meridiem, used = _meridiem_at(items, position + 1)
        return _time(item.hour, item.minute, meridiem), 1 + used
    shift = _RELATIVE_MINUTES.get((_word(items, position), _word(items, position + 1)))
    return _relative_time_at(items, position, shift) if shift is not None else _spoken_time_at(items, position)


def _relative_time_at(items: list[Token], position: int, shift: int) -> tuple[Fact | None, int]:
    """Read "half past five" and "a quarter to nine in the morning"."""
    hour = _hour(items, position + 2)
    if hour is None:
        return None, 0
    meridiem, used = _meridiem_at(items, position + 3)
    return _time(hour if shift > 0 else (hour - 2) % 12 + 1, shift % 60, meridiem), 3 + used


def _spoken_time_at(items: list[Token], position: int) -> tuple[Fact | None, int]:
    """Read "five thirty p.m." and "nine o'clock"; a bare number is no time."""
    hour = _hour(items, position)
    if hour is None:
        return None, 0
    minute = _number(items, position + 1)
    if minute is not None and minute < 60:
        meridiem, used = _meridiem_at(items, position + 2)
        return (_time(hour, int(minute), meridiem), 2 + used) if meridiem else (None, 0)
    used_clock = 1 if _word(items, position + 1) in {"o'clock", "oclock"} else 0
    meridiem, used = _meridiem_at(items, position + 1 + used_clock)
    if not meridiem and not used_clock:
        return None, 0
    return _time(hour, 0, meridiem), 1 + used_clock + used


def _date_at(items: list[Token], position: int) -> tuple[Fact | None, int]:
    month = _MONTHS.get(_word(items, position))
    if month is None:
        return None, 0
    after = position + 2 if _word(items, position + 1) == "the" else position + 1
    day = _number(items, after)
    word = _word(items, after)
    ordinal = _ORDINALS.get(word)
    if ordinal is not None:
        return Fact(kind=FactKind.DATE, value=f"{month:02}-{ordinal:02}"), after + 1 - position
    if day is None or not 1 <= day <= 31:
        return None, 0
    extra = _ORDINALS.get(_word(items, after + 1))
    if day in {20, 30} and extra is not None and extra < 10:
        return Fact(kind=FactKind.DATE, value=f"{month:02}-{int(day) + extra:02}"), after + 2 - position
    return Fact(kind=FactKind.DATE, value=f"{month:02}-{int(day):02}"), after + 1 - position


def _meridiem_at(items: list[Token], position: int) -> tuple[str, int]:
    word = _word(items, position)
    if word in {"am", "pm"}:
        return word, 1
    if word == "in" and _word(items, position + 1) == "the":
        part = _word(items, position + 2)
        if part in {"morning", "afternoon", "evening"}:
            return "am" if part == "morning" else "pm", 3
    return "", 0


def _time(hour: int, minute: int, meridiem: str) -> Fact:
    if hour > 12:
        hour, meridiem = hour - 12, "pm"
    return Fact(kind=FactKind.TIME, value=f"{hour}:{minute:02} {meridiem}".strip())


def _number(items: list[Token], position: int) -> Decimal | None:
    item = items[position] if position < len(items) else None
    return item.value if isinstance(item, Number) else None


def _hour(items: list[Token], position: int) -> int | None:
    value = _number(items, position)
    return int(value) if value is not None and value in range(1, 13) else None


def _word(items: list[Token], position: int) -> str:
    item = items[position] if position < len(items) else ""
    return item if isinstance(item, str) else ""


def _cents(amount: Decimal) -> str:
    return f"{amount:.2f}"


def _plain(value: Decimal) -> str:
    return f"{value.normalize():f}"
