"""Brings text into one form before words are compared, so that only misheard words count as errors.

In the spirit of Whisper's English normaliser (openai/whisper `normalizers/english.py`), smaller: case, punctuation,
hyphens, contractions, titles, fillers, British spelling, and numbers. Every number, however written, becomes its
digits one by one ("25", "twenty-five" and "two five" are all `2 5`; "$4.99" and "four dollars and ninety-nine cents"
are both `4 9 9 dollars` at the cost of the word "cents"), because recognisers choose freely between those forms.
"""

import re

_ONES = (
    "zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten", "eleven", "twelve",
    "thirteen", "fourteen", "fifteen", "sixteen", "seventeen", "eighteen", "nineteen",
)  # fmt: skip
_TENS = {
    "twenty": 20, "thirty": 30, "forty": 40, "fifty": 50, "sixty": 60, "seventy": 70, "eighty": 80, "ninety": 90,
}  # fmt: skip
_VALUES = {word: value for value, word in enumerate(_ONES)} | _TENS
_SCALES = {"thousand": 1_000, "million": 1_000_000}
_ORDINALS = {
    "first": "one", "second": "two", "third": "three", "fourth": "four", "fifth": "five", "sixth": "six",
    "seventh": "seven", "eighth": "eight", "ninth": "nine", "tenth": "ten", "eleventh": "eleven",
    "twelfth": "twelve", "thirteenth": "thirteen", "fourteenth": "fourteen", "fifteenth": "fifteen",
    "sixteenth": "sixteen", "seventeenth": "seventeen", "eighteenth": "eighteen", "nineteenth": "nineteen",
    "twentieth": "twenty", "thirtieth": "thirty",
}  # fmt: skip
_SPELLINGS = {
    "okay": "ok", "mr": "mister", "mrs": "missus", "dr": "doctor", "st": "saint", "colour": "color", "grey": "gray",
    "favourite": "favorite", "centre": "center", "programme": "program", "cheque": "check", "cannot": "can not",
    "gonna": "going to", "wanna": "want to", "gotta": "got to", "theatre": "theater", "alright": "all right",
    "neighbour": "neighbor", "neighbours": "neighbors", "honour": "honor", "labour": "labor", "travelled": "traveled",
    "counselled": "counseled", "o'clock": "", "oclock": "", "anymore": "any more",
}  # fmt: skip
_CONTRACTIONS = (
    ("won't", "will not"), ("can't", "can not"), ("let's", "let us"), ("n't", " not"), ("'re", " are"),
    ("'ll", " will"), ("'ve", " have"), ("'m", " am"), ("'d", " would"), ("'s", " is"),
)  # fmt: skip
_FILLERS = frozenset({"um", "uh", "hmm", "mm", "mhm", "mmm", "uhm", "er", "erm"})
_TOKEN = re.compile(r"[a-z]+|\d")


def words(text: str) -> list[str]:
    """The words of a text in comparable form."""
    spelt: list[str] = []
    for token in _cleaned(text).split():
        spelt += _SPELLINGS.get(token, token).split()
    return _TOKEN.findall(" ".join(_numbers_as_digits([word for word in spelt if word not in _FILLERS])))


def _cleaned(text: str) -> str:
    lowered = text.lower().replace("\u2019", "'").replace("o'clock", "oclock")
    # Whisper tags what is not speech: [BLANK_AUDIO], (coughing), *sighs*.
    lowered = re.sub(r"\[[^\]]*\]|\([^)]*\)|\*[^*]*\*", " ", lowered)
    lowered = re.sub(r"\b([ap])\.?\s?m\b\.?", r"\1m", lowered)
    lowered = re.sub(r"(?<=\d),(?=\d{3})", "", lowered)
    lowered = re.sub(r"\$\s?(\d+(?:\.\d+)?)", r"\1 dollars", lowered)
    lowered = re.sub(r"(?<=\d):00\b", "", lowered)
    lowered = lowered.replace("%", " percent ").replace("&", " and ")
    lowered = re.sub(r"(?<=\d)(?:st|nd|rd|th)\b", "", lowered)
    for short, long in _CONTRACTIONS:
        lowered = re.sub(rf"{short}\b", long, lowered)
    return re.sub(r"[^a-z0-9']+", " ", lowered).replace("'", "")


def _numbers_as_digits(tokens: list[str]) -> list[str]:
    found: list[str] = []
    position = 0
    while position < len(tokens):
        value, used = _number_at(tokens, position)
        found.append(tokens[position] if value is None else value)
        position += used
    return found


def _number_at(tokens: list[str], start: int) -> tuple[str | None, int]:
    """One number of the text ("twenty five", "three hundred and four") and how many words it takes."""
    total, current, used, last_ones = 0, -1, 0, False
    for offset, raw in enumerate(tokens[start:]):
        word = _ORDINALS.get(raw, raw)
        value = _VALUES.get(word)
        if value is not None:
            if current >= 0 and (last_ones or current % 10 or (value >= 10 and current % 100)):
                break
            current = max(current, 0) + value
            last_ones = value < 20
        elif word == "hundred" and 0 < current < 100:
            current, last_ones = current * 100, False
        elif word in _SCALES and current > 0:
            total, current, last_ones = total + current * _SCALES[word], 0, False
        elif word == "and" and total + max(current, 0) >= 100 and _joins(tokens, start + offset, last_ones=last_ones):
            continue
        else:
            break
        used = offset + 1
    if current < 0:
        return None, 1
    return str(total + current), used


def _joins(tokens: list[str], position: int, *, last_ones: bool) -> bool:
    """Whether "and" stands inside a number: "three hundred and four"."""
    following = tokens[position + 1] if position + 1 < len(tokens) else ""
    return not last_ones and following in _VALUES
