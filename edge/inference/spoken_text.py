"""Text as it is to be read aloud: prices, numbers, times and codes become words a caller understands.

Pure. Voices read "$79.99" as "dollar seventy nine ninety nine" and a twelve-digit order number as billions; this is
what DESIGN.md calls speaking properly. English only; other languages pass through their voice's own rules.
"""

import re

_ONES = (
    "zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten", "eleven", "twelve",
    "thirteen", "fourteen", "fifteen", "sixteen", "seventeen", "eighteen", "nineteen",
)  # fmt: skip
_TENS = ("", "", "twenty", "thirty", "forty", "fifty", "sixty", "seventy", "eighty", "ninety")
_SCALES = ((1_000_000_000, "billion"), (1_000_000, "million"), (1_000, "thousand"), (100, "hundred"))
_IRREGULAR_ORDINALS = {
    "one": "first", "two": "second", "three": "third", "five": "fifth", "eight": "eighth", "nine": "ninth",
    "twelve": "twelfth",
}  # fmt: skip
_CURRENCIES = {
    "$": ("dollar", "cent", "cents"), "€": ("euro", "cent", "cents"), "£": ("pound", "penny", "pence"),
}  # fmt: skip
# Longer runs of digits are names of things (orders, telephones), not amounts.
LONGEST_AMOUNT_DIGITS = 4
_GROUP_DIGITS = 3

_MONEY = re.compile(r"([$€£])\s?(\d{1,3}(?:,\d{3})+|\d+)(?:\.(\d{2}))?(?!\d)(?:\s(thousand|million|billion))?")
_CLOCK = re.compile(r"\b(\d{1,2}):(\d{2})(?:\s?([ap])\.?m\b\.?)?", re.IGNORECASE)
_HOUR = re.compile(r"\b(\d{1,2})\s?([ap])\.?m\b\.?", re.IGNORECASE)
_ALWAYS = re.compile(r"\b24/7\b")
_DATE = re.compile(r"\b(\d{4})-(\d{2})-(\d{2})\b")
_PERCENT = re.compile(r"(\d+(?:\.\d+)?)\s?%")
_ORDINAL = re.compile(r"\b(\d{1,3})(?:st|nd|rd|th)\b", re.IGNORECASE)
_PHONE = re.compile(r"(?<![\w.])\+?\(?\d{1,4}\)?(?:[\s.-]\(?\d{2,4}\)?){2,4}(?![\w-])")
_CODE = re.compile(r"\b(?=[A-Z0-9-]*\d)(?=[A-Z0-9-]*[A-Z])[A-Z0-9]+(?:-[A-Z0-9]+)*\b")
_GROUPED = re.compile(r"\b\d{1,3}(?:,\d{3})+\b")
_DECIMAL = re.compile(r"\b(\d+)\.(\d+)\b")
_RANGE = re.compile(r"\b(\d{1,3})\s?[-\u2013]\s?(\d{1,3})\b(?!-)")
_DIGITS = re.compile(r"\d+")
_HASH = re.compile(r"(?:#\s*)+(?=\w)")
_EMAIL = re.compile(r"\b[\w.+-]+@[\w-]+(?:\.[\w-]+)+\b")
_MONTHS = (
    "January", "February", "March", "April", "May", "June", "July", "August", "September", "October", "November",
    "December",
)  # fmt: skip


def spoken(text: str) -> str:
    """Return `text` with everything that has digits or signs spelt as words."""
    text = " ".join(text.split())
    for pattern, say in _RULES:
        text = pattern.sub(say, text)
    return " ".join(text.split())


def number_words(number: int) -> str:
    """Return a cardinal number in words: 1999 is "one thousand nine hundred ninety nine"."""
    if number < 20:
        return _ONES[number]
    if number < 100:
        tens, ones = divmod(number, 10)
        return _TENS[tens] if ones == 0 else f"{_TENS[tens]} {_ONES[ones]}"
    for size, name in _SCALES:
        if number >= size:
            count, rest = divmod(number, size)
            words = f"{number_words(count)} {name}"
            return words if rest == 0 else f"{words} {number_words(rest)}"
    raise AssertionError(number)


def ordinal_words(number: int) -> str:
    """Return an ordinal in words: 21 is "twenty first"."""
    *head, last = number_words(number).split()
    if last in _IRREGULAR_ORDINALS:
        last = _IRREGULAR_ORDINALS[last]
    else:
        last = f"{last[:-1]}ieth" if last.endswith("y") else f"{last}th"
    return " ".join([*head, last])


def digit_words(digits: str) -> str:
    """Return digits one by one, with a breath after each group of three (the last group may have four)."""
    groups = [digits]
    while len(groups[-1]) > _GROUP_DIGITS + 1:
        rest = groups.pop()
        groups += [rest[:_GROUP_DIGITS], rest[_GROUP_DIGITS:]]
    return ", ".join(" ".join(_ONES[int(digit)] for digit in group) for group in groups)


def year_words(year: int) -> str:
    """Return a year as people say it: 1987 is "nineteen eighty seven", 2026 "twenty twenty six"."""
    century, rest = divmod(year, 100)
    if 2000 <= year < 2010 or rest == 0:
        return number_words(year)
    return f"{number_words(century)} {'oh ' if rest < 10 else ''}{number_words(rest)}"


def _money(match: re.Match[str]) -> str:
    whole = int(match[2].replace(",", ""))
    unit, cent, cents = _CURRENCIES[match[1]]
    if match[4]:
        return f"{number_words(whole)} {match[4]} {unit}s"
    fraction = int(match[3] or 0)
    parts = []
    if whole or not fraction:
        parts.append(f"{number_words(whole)} {unit}{'' if whole == 1 else 's'}")
    if fraction:
        parts.append(f"{number_words(fraction)} {cent if fraction == 1 else cents}")
    return " and ".join(parts)


def _half_of_day(letter: str | None) -> str:
    return f" {letter.lower()} m" if letter else ""


def _clock(match: re.Match[str]) -> str:
    hour, minute = int(match[1]), int(match[2])
    if hour > 24 or minute > 59:
        return match[0]
    if minute:
        minutes = f" {'oh ' if minute < 10 else ''}{number_words(minute)}"
    else:
        minutes = "" if match[3] else " o'clock" if hour <= 12 else " hundred"
    return f"{number_words(hour)}{minutes}{_half_of_day(match[3])}{_full_stop(match)}"


def _hour(match: re.Match[str]) -> str:
    return f"{number_words(int(match[1]))}{_half_of_day(match[2])}{_full_stop(match)}"


def _full_stop(match: re.Match[str]) -> str:
    """ "a.m." at the end of a sentence also ends the sentence."""
    return "." if match[0].endswith(".") and match.end() == len(match.string) else ""


def _date(match: re.Match[str]) -> str:
    month, day = int(match[2]), int(match[3])
    if not (1 <= month <= 12 and 1 <= day <= 31):
        return match[0]
    return f"{_MONTHS[month - 1]} {ordinal_words(day)}, {year_words(int(match[1]))}"


def _decimal_words(whole: str, fraction: str) -> str:
    return f"{number_words(int(whole))} point {' '.join(_ONES[int(digit)] for digit in fraction)}"


def _percent(match: re.Match[str]) -> str:
    whole, _, fraction = match[1].partition(".")
    return f"{_decimal_words(whole, fraction) if fraction else _digits_words(whole)} percent"


def _phone(match: re.Match[str]) -> str:
    groups = _DIGITS.findall(match[0])
    if sum(map(len, groups)) < 7:
        return match[0]
    return ", ".join(" ".join(_ONES[int(digit)] for digit in group) for group in groups)


def _code(match: re.Match[str]) -> str:
    pieces = re.findall(r"[A-Z]|\d+|-", match[0])
    words = [digit_words(piece) if piece.isdigit() else "," if piece == "-" else piece for piece in pieces]
    return " ".join(words).replace(" ,", ",")


def _digits_words(digits: str) -> str:
    is_amount = len(digits) <= LONGEST_AMOUNT_DIGITS and (digits == "0" or not digits.startswith("0"))
    if not is_amount:
        return digit_words(digits)
    number = int(digits)
    return year_words(number) if 1900 <= number < 2100 else number_words(number)


def _email(match: re.Match[str]) -> str:
    spelt = match[0].replace("@", " at ").replace(".", " dot ").replace("-", " dash ").replace("_", " underscore ")
    return spelt.replace("+", " plus ")


# In this order: each rule leaves only words behind, so the later ones see what nobody has read yet.
_RULES = (
    (re.compile("&"), lambda _: " and "),
    (_EMAIL, _email),
    (_ALWAYS, lambda _: "twenty four seven"),
    (_DATE, _date),
    (_MONEY, _money),
    (_CLOCK, _clock),
    (_HOUR, _hour),
    (_PERCENT, _percent),
    (_ORDINAL, lambda match: ordinal_words(int(match[1]))),
    (_PHONE, _phone),
    (_CODE, _code),
    (_GROUPED, lambda match: number_words(int(match[0].replace(",", "")))),
    (_DECIMAL, lambda match: _decimal_words(match[1], match[2])),
    (_RANGE, lambda match: f"{number_words(int(match[1]))} to {number_words(int(match[2]))}"),
    (_HASH, lambda _: "number "),
    (_DIGITS, lambda match: _digits_words(match[0])),
)
