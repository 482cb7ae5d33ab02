"""Cleans what the recogniser wrote: hallucinated endings, fillers, fragments that wait for more. Pure."""

import re
from datetime import date, timedelta

from edge.turn.completeness import Completeness, completeness_of

# Whisper adds these to noise and silence (LESSONS 22); they are never a request here.
_HALLUCINATED = re.compile(
    r"(?:\s|^)(?:thanks? (?:you )?(?:so much )?for (?:watching|listening)|please subscribe[^.!?]*|see you next time"
    r"|subtitles by[^.!?]*|\[[^\]]*\]|\([^)]*\)|♪+)[.!]*\s*$|^\s*you\.?\s*$",
    re.IGNORECASE,
)
_FILLERS = re.compile(r"\b(?:um+|uh+|erm?|hmm+|mm+|ah|you know|i mean|basically|actually)\b[,.]?\s*", re.IGNORECASE)
_GREETING = re.compile(
    r"^(?:(?:yeah|yes|hi|hello|hey|good (?:morning|afternoon|evening)|okay|ok|so|well|alright|right)"
    r"(?: there)?[,.!]?\s+)+",
    re.IGNORECASE,
)
# "I just wanted to ask when..." says nothing about what is asked.
_PREAMBLE = re.compile(
    r"^(?:(?:i(?: am|'m)? (?:just )?(?:want(?:ed)?|would like|like|wondering|calling|wonder|need|have a question)"
    r"|i'd (?:just )?like|can you|could you|would you|do you know|please)"
    r"(?: to)? (?:ask(?: you)?|know|tell me|find out|check|if|about|say)?[,:]?\s*(?:please )?(?:about |if )?)",
    re.IGNORECASE,
)
_PREAMBLE_VERBS = re.compile(r"\b(?:ask|know|tell me|find out|wondering|wonder|question)\b", re.IGNORECASE)
_CONTRACTIONS = (
    (r"\b(what|where|when|who|how|that|there|it|he|she|here)'s\b", r"\1 is"), (r"\bi'm\b", "I am"),
    (r"\b(i|you|we|they)'ve\b", r"\1 have"), (r"\b(i|you|we|they)'d\b", r"\1 would"),
    (r"\b(i|you|we|they)'ll\b", r"\1 will"), (r"\b(you|we|they)'re\b", r"\1 are"), (r"\bcan't\b", "can not"),
    (r"\bwon't\b", "will not"), (r"n't\b", " not"), (r"\bgonna\b", "going to"), (r"\bwanna\b", "want to"),
)  # fmt: skip
# What small recognisers make of question words at the beginning of a sentence, where nothing tells them otherwise.
_MISHEARD_STARTS = (
    (
        re.compile(
            r"(^|[.?!,]\s+)one (?=(?:would|will|do|does|did|can|could|should) (?:i|you|we|it|the|my|they)\b)",
            re.IGNORECASE,
        ),
        r"\1when ",
    ),
    (
        re.compile(
            r"(^|[.?!,]\s+)(?:i'll|our) (?=(?:soon|much|many|long|late|early|fast|far|expensive|often|high)"
            r" (?:would|will|do|does|did|can|could|is|are)\b)",
            re.IGNORECASE,
        ),
        r"\1how ",
    ),
    (
        re.compile(
            r"^what(?:'s| is| were| was) (?=(?:do|does|would|will|can|did) (?:you|i|it|the|that|we)\b)", re.IGNORECASE
        ),
        "what ",
    ),
)
_WEEKDAYS = ("monday", "tuesday", "wednesday", "thursday", "friday", "saturday", "sunday")


def cleaned(heard: str) -> str:
    """Return what the caller said, without what the recogniser made up and without fillers."""
    text = heard.strip()
    while (shorter := _HALLUCINATED.sub("", text)) != text:
        text = shorter.strip()
    text = _FILLERS.sub("", text).lstrip(" ,.-…").rstrip()
    for misheard, meant in _MISHEARD_STARTS:
        text = misheard.sub(meant, text)
    text = _without_repeats(text)
    return text if any(character.isalnum() for character in text) else ""


def request_in(text: str) -> str:
    """Return the text without a greeting and "I wanted to ask" in front, unless it is only that."""
    shorter = _GREETING.sub("", text)
    preamble = _PREAMBLE.match(shorter)
    if preamble is not None and _PREAMBLE_VERBS.search(preamble[0]):
        shorter = shorter[preamble.end() :]
    return shorter if len(shorter.split()) > 1 else text


def without_contractions(text: str) -> str:
    """Write "where's" as "where is": recogniser and examples need not agree on it."""
    text = text.replace("\N{RIGHT SINGLE QUOTATION MARK}", "'")
    for contraction, full in _CONTRACTIONS:
        text = re.sub(contraction, full, text, flags=re.IGNORECASE)
    return text


def is_fragment(text: str) -> bool:
    """Whether the words end in the middle of a sentence, so that more will come."""
    return completeness_of(text) in {Completeness.NOTHING, Completeness.UNFINISHED}


def with_weekdays(text: str, today: date) -> str:
    """Replace "today", "tonight" and "tomorrow" by the weekday; "by tomorrow" is a deadline and stays."""
    for word, day in (("today", today), ("tonight", today), ("tomorrow", today + timedelta(days=1))):
        text = re.sub(rf"(?<!\bby )\b{word}\b", _WEEKDAYS[day.weekday()], text, flags=re.IGNORECASE)
    return text


def _without_repeats(text: str) -> str:
    """Cut a loop of the recogniser: the same three or more words again and again."""
    return re.sub(r"\b((?:[\w']+[ ,.]+){2,}[\w']+)(?:[ ,.]+\1\b)+", r"\1", text, flags=re.IGNORECASE)
