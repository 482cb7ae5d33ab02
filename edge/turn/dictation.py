"""Numbers in answers: the digits that a caller speaks.

Recognisers write the same ten digits in many ways ("four, two, seven.", "427 709", "$4,277.09", "4 2 7-7"), so
spoken answers are read word by word. Tables are per language; "en" exists.
"""

import re

from edge.turn.words import lowered, word_set

_UNITS = {
    "zero": 0, "one": 1, "two": 2, "three": 3, "four": 4, "five": 5, "six": 6, "seven": 7, "eight": 8, "nine": 9,
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
_REPEATS = {"double": 2, "triple": 3, "treble": 3, "quadruple": 4}
# "oh" is a digit only beside digits; the others are what a recogniser makes of digits, and count in long runs only.
_OH = frozenset({"oh", "o", "nought", "naught", "nil"})
_HOMOPHONES = {"to": 2, "too": 2, "tu": 2, "for": 4, "fore": 4, "won": 1, "ate": 8, "tree": 3, "niner": 9}
_MIN_DIGITS_FOR_HOMOPHONES = 3
# What recognisers make of single digits that were asked for; anywhere else these are ordinary words.
_EXPECTED = {
    "to": "two", "too": "two", "tu": "two", "tool": "two", "for": "four", "fore": "four", "far": "four", "ate": "eight",
    "a": "eight", "hate": "eight", "eighth": "eight", "won": "one", "juan": "one", "tree": "three", "free": "three",
    "sree": "three", "sex": "six", "sicks": "six", "sick": "six", "sixth": "six", "nein": "nine", "niner": "nine",
    "nigh": "nine", "mine": "nine", "fiver": "five", "fife": "five", "hive": "five", "sero": "zero", "o": "oh",
    "owe": "oh", "none": "nine", "heaven": "seven", "sevens": "seven", "eights": "eight", "nines": "nine",
    "fives": "five", "fours": "four", "threes": "three", "twos": "two", "ones": "one", "zeros": "zero",
    "zeroes": "zero", "sixes": "six", "b": "three", "treble": "triple",
}  # fmt: skip
# Beside digits they say nothing: "it's four two", "no, the number is ...".
_AROUND_DIGITS = word_set(
    "it it's its is the my number no yes yeah yep sorry i mean that's that so okay ok sure well and then ends in "
    "ending with card order account phone please uh um er hmm actually correction wait not of last four digits are "
    "here you go"
)
_ABOUT_DIGITS = re.compile(r"\b(?:last|first) (?:two|three|four|five|six|\d) (?:digits|numbers|ones)\b")
# "5 5 5 5" for "five five five": a row this long may have been heard one too long.
_LONG_ROW = 4
_FILLERS = frozenset({"um", "uh", "er", "erm", "hmm", "dash", "hyphen", "minus", "space", "slash", "dot"})
_HOMOPHONE_RUN = frozenset(_UNITS) | frozenset(_OH) | frozenset(_HOMOPHONES)

_TOKEN = re.compile(r"\d+(?:st|nd|rd|th)\b|\d+(?:[.,]\d+)*|[a-z']+")
_ORDINAL = re.compile(r"\d+(?:st|nd|rd|th)$")


def digits_in(text: str) -> str:
    """All digits said in `text`, in order: "four two double seven oh nine" gives "427709"."""
    return "".join(_RunReader(run).read() for run in _runs(_tokens(text)))


def expected_digits_in(text: str, wanted: int | None = None) -> str:
    """The digits said in answer to a question for `wanted` digits (None: any count).

    Since digits were asked for, words that only sound like digits count ("2A", "to ate", "won for"), unless most of
    the words are others. A number said twice in a row, and a row heard one too long, are read as they were meant.
    """
    plain = _ABOUT_DIGITS.sub(" ", _unglued(text))
    heard = _tokens(plain)
    spelt = [_EXPECTED.get(word, word) for word in heard]
    likely, certain = digits_in(" ".join(spelt)), digits_in(plain)
    others = sum(1 for word in spelt if word not in _AROUND_DIGITS and not _is_part_of_number(word))
    if others <= (max(1, len(likely) // _MIN_DIGITS_FOR_HOMOPHONES) if certain else 0):
        found = likely
    else:
        # "What does a new one cost?" is a question, "you see it says 4277 on it" an answer.
        found = certain if len(certain) >= max(_MIN_DIGITS_FOR_HOMOPHONES, others // 2) else ""
    return found if wanted is None else _as_meant(found, wanted)


def _unglued(text: str) -> str:
    """Letters and colons taken off digits: "7a" is "7 a", "4:27" is dictation."""
    spaced = re.sub(r"(?<=\d)(?=[a-z])|(?<=[a-z])(?=\d)", " ", lowered(text))
    return re.sub(r"(?<=\d)[:.,](?=\d)", " ", spaced)


def _is_part_of_number(word: str) -> bool:
    return _may_continue(word, []) and word not in _HOMOPHONES


def _as_meant(digits: str, wanted: int) -> str:
    if len(digits) > wanted and digits == digits[:wanted] * (len(digits) // wanted):
        return digits[:wanted]
    if len(digits) == wanted + 1:
        row = re.search(rf"(\d)\1{{{_LONG_ROW - 1},}}", digits)
        return digits[: row.start()] + digits[row.start() + 1 :] if row is not None else digits
    return digits


def _tokens(text: str) -> list[str]:
    return [word for word in _TOKEN.findall(lowered(text)) if word not in _FILLERS]


def _is_numeral(word: str) -> bool:
    return word[0].isdigit() and not _ORDINAL.match(word)


def _is_number_word(word: str) -> bool:
    return word in _UNITS or word in _TEENS or word in _TENS or word in _REPEATS


def _runs(words: list[str]) -> list[list[str]]:
    """Stretches of words that can be parts of numbers."""
    runs: list[list[str]] = []
    run: list[str] = []
    for word in [*words, ""]:
        if word and _may_continue(word, run):
            run.append(word)
            continue
        if run:
            runs.append(_without_false_digits(run))
        run = []
    return [run for run in runs if run]


def _may_continue(word: str, run: list[str]) -> bool:
    if _is_numeral(word) or _is_number_word(word) or word in _OH or word in _HOMOPHONES:
        return True
    # "a hundred", "one hundred and five"
    return word in _SCALES or word == "hundred" or (word == "and" and bool(run) and run[-1] in {"hundred", "thousand"})


def _without_false_digits(run: list[str]) -> list[str]:
    certain = sum(len(word) if _is_numeral(word) else _is_number_word(word) for word in run)
    if certain < _MIN_DIGITS_FOR_HOMOPHONES:
        run = [word for word in run if word not in _HOMOPHONES]
    return run if certain or "hundred" in run or "thousand" in run else []


class _RunReader:
    """Reads one run of number words as digits, the way people dictate."""

    def __init__(self, words: list[str]) -> None:
        self._tokens = words
        self._at = 0

    def read(self) -> str:
        parts = []
        while self._at < len(self._tokens):
            parts.append(self._next())
        return "".join(parts)

    def _peek(self, ahead: int = 0) -> str:
        index = self._at + ahead
        return self._tokens[index] if index < len(self._tokens) else ""

    def _next(self) -> str:
        word = self._peek()
        if word in _REPEATS:
            return self._repeated(_REPEATS[word])
        if _is_numeral(word) and not self._is_scale(1):
            self._at += 1
            return re.sub(r"\D", "", word)
        if word in _OH or word in _HOMOPHONES:
            self._at += 1
            return str(_HOMOPHONES.get(word, 0))
        if word == "and":
            self._at += 1
            return ""
        return str(self._number())

    def _is_scale(self, ahead: int) -> bool:
        return self._peek(ahead) == "hundred" or self._peek(ahead) in _SCALES

    def _repeated(self, times: int) -> str:
        self._at += 1
        following = self._peek()
        if _is_numeral(following or " "):
            self._at += 1
            digits = re.sub(r"\D", "", following)
            return digits[0] * times + digits[1:]
        digit = _UNITS.get(following, _HOMOPHONES.get(following, 0 if following in _OH else None))
        if digit is None:
            return ""
        self._at += 1
        return str(digit) * times

    def _number(self) -> int:
        """A spoken number: "forty two", "one hundred and five", "two thousand twenty four"."""
        total = self._below_hundred()
        while self._is_scale(0):
            scale = self._peek()
            self._at += 1
            factor = 100 if scale == "hundred" else _SCALES[scale]
            # "two thousand one hundred" adds, "one hundred thousand" multiplies
            total = max(total, 1) * factor
            total += self._remainder(factor)
        return total

    def _remainder(self, factor: int) -> int:
        start = self._at
        if self._peek() == "and":
            self._at += 1
        if not self._is_addend():
            self._at = start
            return 0
        value = self._below_hundred()
        if factor >= 1000 and self._peek() == "hundred":
            self._at += 1
            value = value * 100 + self._remainder(100)
        if value >= factor:
            self._at = start
            return 0
        return value

    def _is_addend(self) -> bool:
        """Whether the next word adds to a hundred, not begins the next group ("eight hundred five five five")."""
        word = self._peek()
        if word in _UNITS:
            following = self._peek(1)
            return not (
                following in _UNITS or following in _OH or following in _REPEATS or _is_numeral(following or " ")
            )
        return word in _TEENS or word in _TENS

    def _below_hundred(self) -> int:
        word = self._peek()
        if self._is_scale(0):
            return 0  # "a hundred"
        self._at += 1
        if _is_numeral(word):
            return int(re.sub(r"\D", "", word))
        if word in _TENS:
            unit = _UNITS.get(self._peek(), 0)
            if unit:
                self._at += 1
            return _TENS[word] + unit
        return _UNITS.get(word, _TEENS.get(word, 0))
