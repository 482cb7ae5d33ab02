"""Do these words sound finished? Evidence from the transcript alone; tables per language ("en" exists)."""

from enum import StrEnum

from edge.turn.words import word_set, words_of

# After these words English goes on: conjunctions, prepositions, articles, possessives, auxiliaries, hesitations.
_LEADING_ON = word_set(
    "and or but because so if when while that which who whose than then as since although though unless until "
    "of to in on at for from with by about into onto over under between through during without within "
    "the a an my your his her its our their this these some any every each another "
    "i'm i'd i'll i've we're you're he's she's they're there's it's is are was were am be been being will would "
    "shall should could can may might must do does did have has had "
    "um uh er erm hmm well like actually basically also plus maybe let's i we"
)
# Words of the list above that often end a whole sentence ("Yes, it is." "What is this?" "I would like to."): only a
# recogniser that wrote no full stop makes them look unfinished.
_MAY_END = word_set(
    "so then though that this these some any another in on over under about through is are was were am be been do "
    "does did have has had will would should could can may might must well like actually too also maybe to i we it's "
    "who when which without within by for from with at of"
)
_OPENINGS = (
    "my number is", "my name is", "the number is", "it is", "it's", "that's", "my account number is",
    "my order number is", "my phone number is", "my email is", "my address is", "i would like", "i want", "i need",
    "i'd like", "can you", "could you", "do you", "i have", "i was wondering", "i'm calling about", "i'm calling",
    "hold on", "let me see", "let me check", "let me think", "one moment", "one second", "just a second",
    "just a moment", "give me a second", "wait a second", "the thing is", "what about",
)  # fmt: skip
_OPENING_WORDS = frozenset(_OPENINGS)

YES_NO_WORDS = word_set(
    "yes yeah yep yup no nope nah sure ok okay correct right absolutely exactly definitely certainly please alright "
    "indeed incorrect wrong never agreed"
)


# Said alone they open a sentence: "Sorry ... what time do you close?"
_OPENERS = word_set("sorry excuse me pardon hello hi hey so well wait hold on listen look")


class Completeness(StrEnum):
    """How finished the words sound."""

    NOTHING = "nothing"
    UNFINISHED = "unfinished"
    OPEN = "open"
    ANSWERED = "answered"


def completeness_of(text: str) -> Completeness:
    """NOTHING, UNFINISHED (the words lead on), ANSWERED (only yes, no and their like), else OPEN."""
    words = words_of(text)
    if not words:
        return Completeness.NOTHING
    if _leads_on(text.strip(), words):
        return Completeness.UNFINISHED
    if len(words) <= 3 and words[0] in YES_NO_WORDS and all(w in YES_NO_WORDS or w in _POLITE for w in words):
        return Completeness.ANSWERED
    return Completeness.OPEN


def is_sentence(text: str) -> bool:
    """Whether the recogniser wrote an end to the sentence."""
    return text.rstrip().endswith((".", "?", "!")) and not text.rstrip().endswith("...")


_POLITE = word_set("thanks thank you sir ma'am madam that's that is it i do am did agree")


def _leads_on(text: str, words: list[str]) -> bool:
    if text.endswith(("...", "…", "-", "–", "—", ":")):  # noqa: RUF001 (recognisers write all three dashes)
        return True
    if (
        _OPENERS.issuperset(words)
        or " ".join(words) in _OPENING_WORDS
        or " ".join(words[-3:]) in {"my number is", "my name is", "the number is"}
    ):
        return True
    last = words[-1]
    if last not in _LEADING_ON:
        return False
    is_question = text.endswith(("?", "!"))
    ends_sentence = text.endswith(".") and len(words) >= 2
    return not (last in _MAY_END and (is_question or ends_sentence))
