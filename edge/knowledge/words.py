"""Words as they are compared: lower case, stemmed, by sound. Pure."""

import re
from collections.abc import Sequence
from functools import lru_cache

from edge.knowledge.numerals import with_numerals


def word_set(text: str) -> frozenset[str]:
    """Return the words of a list written as text."""
    return frozenset(text.split())


STOPWORDS = word_set(
    "a an the is are am was were be been do does did can could would will shall should may might i me my we us "
    "our you your he she it its they them their this that these those to of in on at for from by with and or but "
    "if so then as there here have has had get got just please hi hello hey ok okay um uh er ah well like really "
    "also some any i'm i'd i'll i've it's that's there's let's yeah yes no oh about want need know tell what "
    "which how when where who whats what's hows how's"
)
_WORD = re.compile(r"[a-z0-9:.]*[a-z0-9]")
_ENDINGS = (("ies", "y"), ("ings", ""), ("ing", ""), ("edly", ""), ("ed", ""), ("ly", ""), ("es", "e"), ("s", ""))
_SOUNDS = (
    ("ph", "f"), ("gh", "g"), ("ck", "k"), ("qu", "k"), ("wh", "w"), ("wr", "r"), ("kn", "n"), ("tch", "x"),
    ("ch", "x"), ("sh", "x"), ("th", "0"), ("dg", "j"), ("ce", "s"), ("ci", "s"), ("cy", "s"), ("c", "k"),
    ("q", "k"), ("z", "s"), ("v", "f"), ("b", "p"), ("d", "t"), ("x", "ks"), ("y", "i"),
)  # fmt: skip


_ROUGH = (("ph", "f"), ("ck", "k"), ("qu", "k"), ("wh", "w"), ("kn", "n"), ("wr", "r"), ("th", "t"), ("ee", "i"),
          ("ea", "i"), ("oo", "u"), ("ce", "se"), ("ci", "si"))  # fmt: skip
# Letters that telephone speech does not tell apart, each group as one of them.
_ALIKE = str.maketrans("vpdcqgzxmyeu", "bbtkkkssniio")


def words(text: str) -> list[str]:
    """Return the words of a text in lower case, numbers as numerals."""
    return _WORD.findall(with_numerals(text).replace("'", ""))


@lru_cache(maxsize=8192)
def stem(word: str) -> str:
    """Return the word without its common English endings, enough to match "fees" with "fee"."""
    for ending, replacement in _ENDINGS:
        if word.endswith(ending) and len(word) - len(ending) >= 3 and not word.endswith("ss"):
            word = word[: -len(ending)] + replacement
            break
    if len(word) > 3 and word[-1] == word[-2] and word[-1] not in "sle":
        word = word[:-1]
    return word.removesuffix("e") if len(word) > 3 else word


def content_stems(text: str) -> frozenset[str]:
    """Return the stems of the words that carry meaning."""
    return frozenset(stem(word) for word in words(text) if word not in STOPWORDS)


@lru_cache(maxsize=8192)
def sound(word: str) -> str:
    """Return how a word sounds, roughly: vowels after the first letter dropped, similar consonants one letter."""
    for spelling, key in _SOUNDS:
        word = word.replace(spelling, key)
    head, tail = word[:1], re.sub(r"[aeiouhw]", "", word[1:])
    return re.sub(r"(.)\1+", r"\1", ("a" if head in "aeiou" else head) + tail)


@lru_cache(maxsize=8192)
def rough(word: str) -> str:
    """Return a word spelt so that what telephone speech does not tell apart is one letter: "visa" and "ebiza" differ by
    their first letter only."""
    for spelling, key in _ROUGH:
        word = word.replace(spelling, key)
    return re.sub(r"(.)\1+", r"\1", word.translate(_ALIKE))


def spelt_together(spoken: Sequence[str]) -> tuple[str, str, str]:
    """Return the letters of words, how they sound and how they are spelt roughly, without spaces: the recogniser writes
    "AeroBuds" as two words as often as one."""
    letters = "".join(spoken)
    return letters, sound(letters), rough(letters)
