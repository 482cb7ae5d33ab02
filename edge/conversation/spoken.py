"""Writes numbers as words, the way a voice reads them well: prices, digits one by one, counts, clock times."""

from decimal import Decimal, InvalidOperation

_UNITS = [
    "zero",
    "one",
    "two",
    "three",
    "four",
    "five",
    "six",
    "seven",
    "eight",
    "nine",
    "ten",
    "eleven",
    "twelve",
    "thirteen",
    "fourteen",
    "fifteen",
    "sixteen",
    "seventeen",
    "eighteen",
    "nineteen",
]
_TENS = ["zero", "ten", "twenty", "thirty", "forty", "fifty", "sixty", "seventy", "eighty", "ninety"]
# Above this a written-out number is longer than a caller can follow.
_LARGEST_IN_WORDS = 999_999_999


def count(value: int) -> str:
    """Return a whole number in words: "one hundred and seventy-nine"."""
    if value < 0:
        return f"minus {count(-value)}"
    if value > _LARGEST_IN_WORDS:
        return digits(str(value))
    for size, name in ((1_000_000, "million"), (1_000, "thousand")):
        if value >= size:
            rest = value % size
            joint = " and " if 0 < rest < 100 else " "
            return f"{count(value // size)} {name}" + (f"{joint}{count(rest)}" if rest else "")
    if value >= 100:
        rest = value % 100
        return f"{_UNITS[value // 100]} hundred" + (f" and {count(rest)}" if rest else "")
    if value < 20:
        return _UNITS[value]
    return _TENS[value // 10] + (f"-{_UNITS[value % 10]}" if value % 10 else "")


def money(value: Decimal) -> str:
    """Return dollars in words: "seventy-nine dollars and ninety-nine cents"."""
    cents_total = int((value * 100).to_integral_value())
    dollars, cents = divmod(cents_total, 100)
    dollar_words = f"{count(dollars)} dollar{'' if dollars == 1 else 's'}"
    cent_words = f"{count(cents)} cent{'' if cents == 1 else 's'}"
    if not cents:
        return dollar_words
    return f"{dollar_words} and {cent_words}" if dollars else cent_words


def digits(text: str) -> str:
    """Return digits one by one: "four two seven seven", in groups of at most four."""
    names = [_UNITS[int(character)] for character in text if character.isdigit()]
    groups: list[str] = []
    for size in _groups(len(names)):
        groups.append(" ".join(names[:size]))
        names = names[size:]
    return ", ".join(groups)


def _groups(length: int) -> list[int]:
    """Return how many digits are said in one breath: telephone numbers as 3-3-4, the rest in threes or fours."""
    if length == 10:
        return [3, 3, 4]
    size = 3 if length in {3, 6, 9} else 4
    return [size] * (length // size) + ([length % size] if length % size else [])


def formatted(value: str, style: str) -> str:
    """Return `value` as the style of a template says: `money`, `digits`, `count` or plain.

    Raises ValueError for a value the style cannot read.
    """
    try:
        match style:
            case "money":
                return money(Decimal(value))
            case "digits":
                return digits(value)
            case "count":
                return count(int(value))
            case "":
                return value
            case _:
                raise ValueError(f"unknown style {style!r}; use money, digits or count")
    except InvalidOperation as error:
        raise ValueError(f"{value!r} is not an amount") from error
