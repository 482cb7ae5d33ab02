"""Reads numbers in a text, as numerals or words: "forty two", "4-2", "double seven", "5:30".

Below everything that compares what callers and documents say: names of products, digits, facts.
"""

import re
from collections.abc import Callable
from dataclasses import dataclass
from decimal import Decimal

_UNITS = {
    "zero": 0, "oh": 0, "one": 1, "two": 2, "three": 3, "four": 4, "five": 5, "six": 6, "seven": 7, "eight": 8,
    "nine": 9,
}  # fmt: skip
_TEENS = {
    "ten": 10, "eleven": 11, "twelve": 12, "thirteen": 13, "fourteen": 14, "fifteen": 15, "sixteen": 16,
    "seventeen": 17, "eighteen": 18, "nineteen": 19,
}  # fmt: skip
_TENS = {
    "twenty": 20, "thirty": 30, "forty": 40, "fourty": 40, "fifty": 50, "sixty": 60, "seventy": 70, "eighty": 80,
    "ninety": 90,
}  # fmt: skip
_SCALES = {"thousand": 1_000, "million": 1_000_000}
_REPEATS = {"double": 2, "triple": 3}
# A number can begin with no other word.
_BEGINNINGS = frozenset({*_UNITS, *_TEENS, *_TENS, *_REPEATS, "a"})
_TOKEN = re.compile(r"\d{1,2}:\d{2}|\d+(?:,\d{3})+(?:\.\d+)?|\d+(?:\.\d+)?|[a-z]+(?:'[a-z]+)?|[$%]")


@dataclass(frozen=True, slots=True, kw_only=True)
class Number:
    """A number of the text; `digits` is how it was dictated, so "oh four" keeps its zero."""

    value: Decimal
    digits: str
    is_word: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Clock:
    hour: int
    minute: int


Token = str | Number | Clock


def digits_in(text: str) -> str:
    """Return the digits a caller dictated, in order: "four two, seven seven" and "42 77" are both "4277"."""
    return "".join(item.digits for item in read_numbers(text) if isinstance(item, Number))


def _tokens(text: str) -> list[str]:
    lowered = text.lower().replace("\N{RIGHT SINGLE QUOTATION MARK}", "'")
    lowered = re.sub(r"\b([ap])\.?\s?m\b\.?", r" \1m ", lowered)
    # "4-2-7-7" is dictation, "forty-two" one number.
    lowered = re.sub("[-/\N{EN DASH}\N{EM DASH}]", " ", lowered)
    return _TOKEN.findall(lowered)


def read_numbers(text: str) -> list[Token]:
    """Return the words of a text in lower case, every run of number words and numerals replaced by its value."""
    tokens = _tokens(text)
    items: list[Token] = []
    position = 0
    while position < len(tokens):
        token = tokens[position]
        if token[0].isalpha() and token not in _BEGINNINGS:
            items.append(token)
            position += 1
            continue
        if ":" in token:
            hour, minute = token.split(":")
            items.append(Clock(hour=int(hour), minute=int(minute)))
            position += 1
            continue
        number, used = _number_at(tokens, position)
        if number is not None:
            items.append(number)
            position += used
        else:
            items.append(token)
            position += 1
    return items


def _number_at(tokens: list[str], start: int) -> tuple[Number | None, int]:
    token = tokens[start]
    if token[0].isdigit():
        run = _run(tokens, start, lambda word: len(word) == 1 and word.isdigit())
        digits = "".join(tokens[start : start + run]) if run > 1 else token.replace(",", "")
        return Number(value=Decimal(digits), digits=digits.replace(".", "")), max(run, 1)
    dictated = _dictated_at(tokens, start)
    return dictated if dictated[0] is not None else _cardinal_at(tokens, start)


def _dictated_at(tokens: list[str], start: int) -> tuple[Number | None, int]:
    """Read "four two, double seven" as one string of digits."""
    digits, position = "", start
    while position < len(tokens):
        token = tokens[position]
        following = tokens[position + 1] if position + 1 < len(tokens) else ""
        if token in _UNITS and following not in _SCALES and following != "hundred":
            digits += str(_UNITS[token])
            position += 1
        elif token in _REPEATS and following in _UNITS:
            digits += str(_UNITS[following]) * _REPEATS[token]
            position += 2
        else:
            break
    if len(digits) < 2:
        return None, 0
    return Number(value=Decimal(digits), digits=digits), position - start


def _cardinal_at(tokens: list[str], start: int) -> tuple[Number | None, int]:  # noqa: C901 (one grammar, read top down)
    """Read "one hundred and seventy nine" and "two point five"; a second number in a row starts anew."""
    total, current, last, position = 0, 0, "", start
    while position < len(tokens):
        word = tokens[position]
        following = tokens[position + 1] if position + 1 < len(tokens) else ""
        if word in _UNITS and word != "oh" and last in {"", "tens", "hundred", "scale"}:
            current, last = current + _UNITS[word], "unit"
        elif (word in _TEENS or word in _TENS) and last in {"", "hundred", "scale"}:
            current, last = current + _TEENS.get(word, _TENS.get(word, 0)), "tens" if word in _TENS else "unit"
        elif word == "a" and following in {"hundred", *_SCALES} and not last:
            current, last = 1, "unit"
        elif word == "hundred" and last in {"unit", "tens"}:
            current, last = current * 100, "hundred"
        elif word in _SCALES and last in {"unit", "tens", "hundred"}:
            total, current, last = total + current * _SCALES[word], 0, "scale"
        elif not (word == "and" and last in {"hundred", "scale"} and _starts_number(following)):
            break
        position += 1
    if not last:
        return None, 0
    value = Decimal(total + current)
    if tokens[position : position + 1] == ["point"]:
        fraction = _run(tokens, position + 1, lambda digit: digit in _UNITS)
        if fraction:
            decimals = "".join(str(_UNITS[word]) for word in tokens[position + 1 : position + 1 + fraction])
            value, position = Decimal(f"{value}.{decimals}"), position + 1 + fraction
    return Number(value=value, digits=str(value).replace(".", ""), is_word=True), position - start


def _run(tokens: list[str], start: int, belongs: Callable[[str], bool]) -> int:
    end = start
    while end < len(tokens) and belongs(tokens[end]):
        end += 1
    return end - start


def _starts_number(token: str) -> bool:
    return token in _UNITS or token in _TEENS or token in _TENS


def with_numerals(text: str) -> str:
    """Return the words with every number as a numeral: "the fifty-five inch" is "the 55 inch"."""
    return " ".join(_numeral(token) for token in read_numbers(text))


def _numeral(token: Token) -> str:
    if isinstance(token, Clock):
        return f"{token.hour}:{token.minute:02}"
    if isinstance(token, Number):
        return token.digits if token.value == token.value.to_integral_value() else f"{token.value:f}"
    return token
