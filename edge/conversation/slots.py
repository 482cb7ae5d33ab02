"""Reads the answer to a question out of what was heard: digits, yes or no, a choice, an amount. Pure."""

import itertools
import re
from collections.abc import Sequence
from dataclasses import dataclass

from rapidfuzz import fuzz

from edge.conversation.agent import Choice, Slot, SlotKind
from edge.conversation.facts import amount_in
from edge.knowledge.words import STOPWORDS, rough, sound, word_set, words
from edge.turn.dictation import expected_digits_in

_YES = word_set(
    "yes yeah yep yup sure correct right ok okay absolutely definitely certainly exactly agreed fine affirmative ya "
    "please"
)
_NO = word_set("no nope nah not negative wrong incorrect never don't dont neither")
_SOUNDS_YES = word_set("yet yas yess jess yo yay guess ye yea")
_SOUNDS_NO = word_set("know nor noo nose non naw nay")
_YES_PHRASES = ("of course", "go ahead", "that's it", "that is right", "that's right", "sounds good", "i do", "i agree",
                "uh huh", "mm hmm", "you can", "why not", "that would be great", "let's do that", "do it")  # fmt: skip
_NO_PHRASES = ("no thank", "not really", "i don't", "i do not", "rather not", "that's wrong", "that is wrong")
# "Yes please", "no that's not right": longer answers say something else besides.
_LONGEST_YES_NO_WORDS = 7
_CORRECTION = re.compile(r"\b(?:no|not|sorry|i mean|correction|wait|actually)\b")
_CHOICE_CUTOFF = 82
# Shorter sounds are shared by too many words.
_LEAST_SOUNDS = 3
# Without vowels "card" sounds like "credit"; the letters tell them apart.
_LEAST_LETTERS = 70
# Percent of likeness by `rough` from which a short answer means the nearest choice, and its lead over the next one.
_LEAST_LIKE = 72.0
_LEAST_LIKE_OTHERS = 86.0
_LEAD = 12.0
_LONGEST_ANSWER_WORDS = 6
_ASKING = word_set("what when where who why how which can could do does is are")


@dataclass(frozen=True, slots=True, kw_only=True)
class Filled:
    """A value for a slot; `is_whole` is False for the beginning of a longer string of digits."""

    value: str
    is_whole: bool = True


def fill(slot: Slot, text: str, earlier_digits: str = "") -> Filled | None:
    """Return what the text says for this slot, None when it says nothing for it. Items are not read here."""
    match slot.kind:
        case SlotKind.DIGITS:
            return _digits(slot.digits, text, earlier_digits)
        case SlotKind.YES_NO:
            answer = likely_yes_or_no(text)
            return None if answer is None else Filled(value="yes" if answer else "no")
        case SlotKind.CHOICE:
            return _choice(slot.choices, text)
        case SlotKind.AMOUNT:
            amount = amount_in(text)
            return None if amount is None else Filled(value=str(amount))
        case SlotKind.TEXT:
            return Filled(value=text) if words(text) else None
        case SlotKind.ITEM:
            return None


def likely_yes_or_no(text: str) -> bool | None:
    """Return what an answer to "is that right?" most likely is: also "yet" and "know", where nothing else was said."""
    answer = yes_or_no(text)
    heard = words(text)
    if answer is not None or len(heard) != 1:
        return answer
    return True if heard[0] in _SOUNDS_YES else False if heard[0] in _SOUNDS_NO else None


def yes_or_no(text: str) -> bool | None:
    """Return True for yes, False for no, None for anything else, including long or contradicting answers."""
    lowered = re.sub(r"[^a-z' ]", " ", text.lower())
    lowered = " ".join(lowered.split())
    heard = lowered.split()
    if not heard:
        return None
    has_no = bool(_NO & set(heard)) or any(phrase in lowered for phrase in _NO_PHRASES)
    has_yes = bool(_YES & set(heard)) or any(phrase in lowered for phrase in _YES_PHRASES)
    if has_no and has_yes:
        # "No, that's right" is unclear; "yeah no" and "no, not correct" are a no by their first word.
        return False if heard[0] in _NO and "right" not in heard[1:] else None
    if len(heard) > _LONGEST_YES_NO_WORDS and heard[0] not in _YES | _NO:
        return None
    return True if has_yes else False if has_no else None


def _digits(wanted: int | None, text: str, earlier: str) -> Filled | None:
    found = expected_digits_in(text, wanted)
    if not found:
        return None
    if wanted is not None and earlier and found != (rest := expected_digits_in(text, wanted - len(earlier))):
        # "6 1 6 1" for the second half is what recognisers write for "six one".
        return Filled(value=earlier + rest)
    if wanted is None or len(found) == wanted:
        return Filled(value=found)
    if len(earlier + found) == wanted:
        return Filled(value=earlier + found)
    if len(found) > wanted:
        # "4278, no, 4277": what comes last counts.
        corrected = _CORRECTION.search(text.lower()) is not None
        return Filled(value=found[-wanted:]) if corrected else None
    joined = earlier + found if len(earlier + found) < wanted else found
    return Filled(value=joined, is_whole=False)


def _choice(choices: Sequence[Choice], text: str) -> Filled | None:
    heard = " ".join(words(text))
    best: list[tuple[float, str]] = []
    for choice in choices:
        names = [" ".join(words(name)) for name in (choice.value, *choice.words)]
        best.append((max(_fit(name, heard) for name in names), choice.value))
    best.sort(reverse=True)
    (first, value), (second, _) = best[0], best[1]
    if first >= _CHOICE_CUTOFF and first > second:
        return Filled(value=value)
    return _nearest_choice(choices, heard.split())


def _nearest_choice(choices: Sequence[Choice], heard: Sequence[str]) -> Filled | None:
    """Return the choice that a short answer sounds most like: few are possible, so likeness and a lead will do."""
    if not heard or len(heard) > _LONGEST_ANSWER_WORDS or set(heard) & _ASKING:
        return None
    said = [*heard, *(first + second for first, second in itertools.pairwise(heard))]
    ranked = sorted(
        ((max(_likeness(name, said) for name in _own_words(choice, choices)), choice.value) for choice in choices),
        reverse=True,
    )
    (first, value), (second, _) = ranked[0], ranked[1]
    return Filled(value=value) if first >= _LEAST_LIKE and first - second >= _LEAD else None


def _own_words(choice: Choice, choices: Sequence[Choice]) -> list[str]:
    """Return the words that name this choice and no other: "card" tells "debit card" and "credit card" not apart."""
    others = {word for other in choices if other is not choice for word in _named_by(other)}
    return [word for word in _named_by(choice) if word not in others] or _named_by(choice)


def _named_by(choice: Choice) -> list[str]:
    return [word for name in (choice.value, *choice.words) for word in words(name)]


def _likeness(name: str, said: Sequence[str]) -> float:
    wanted = rough(name)
    found = [(rough(word), fuzz.ratio(rough(word), wanted)) for word in said if _may_be(word, name)]
    # "Sunday" is not a misheard "Monday": another beginning must be made up for.
    return max((ratio for word, ratio in found if word[0] == wanted[0] or ratio >= _LEAST_LIKE_OTHERS), default=0.0)


def _may_be(word: str, name: str) -> bool:
    return len(name) >= _LEAST_SOUNDS and len(word) >= _LEAST_SOUNDS and word not in STOPWORDS


def _fit(name: str, heard: str) -> float:
    if re.search(rf"\b{re.escape(name)}\b", heard):
        return 100.0 + len(name)
    if _sounds_in(name, heard):
        return _CHOICE_CUTOFF
    return fuzz.partial_ratio(name, heard) if len(name) > 4 and len(heard) >= len(name) else fuzz.ratio(name, heard)


def _sounds_in(name: str, heard: str) -> bool:
    """Whether one or two words heard sound like the name: "dub it" for "debit"."""
    wanted = sound(name.replace(" ", ""))
    spoken = heard.split()
    pairs = [first + second for first, second in itertools.pairwise(spoken)]
    return len(wanted) >= _LEAST_SOUNDS and any(
        sound(word) == wanted and fuzz.ratio(word, name) >= _LEAST_LETTERS for word in [*spoken, *pairs]
    )
