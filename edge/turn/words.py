"""Words of a transcript, and tables of words."""

import re

_WORD = re.compile(r"[a-z0-9']+")
_CURLY_APOSTROPHE = "\N{RIGHT SINGLE QUOTATION MARK}"


def words_of(text: str) -> list[str]:
    """Lower-case words without punctuation."""
    return _WORD.findall(lowered(text))


def lowered(text: str) -> str:
    """Lower-case text with plain apostrophes."""
    return text.lower().replace(_CURLY_APOSTROPHE, "'")


def word_set(words: str) -> frozenset[str]:
    """A table of words, written as one string."""
    return frozenset(words.split())
