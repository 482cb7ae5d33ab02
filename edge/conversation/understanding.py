"""From words to what is wanted, with a calibrated probability that this is right.

Evidence is collected from the examples of intents and from knowledge, by meaning (vectors) and by words; a logistic
model (`calibration.json`, fitted by `calibrate.py`) turns it into a probability. Questions about nothing the agent
knows come out improbable, and the policy declines them.
"""

import json
import math
import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import date
from enum import StrEnum
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from edge.conversation.agent import Agent, Intent
from edge.conversation.classes import with_classes
from edge.conversation.dialogue import DialogueState
from edge.conversation.hearing import request_in, with_weekdays, without_contractions
from edge.knowledge.base import KnowledgeBase
from edge.knowledge.examples import ExampleIndex, Match
from edge.knowledge.items import Item
from edge.knowledge.mentions import SURE, Mention
from edge.knowledge.words import STOPWORDS, content_stems, stem, words

KNOWLEDGE_INTENT = "knowledge"
_CALIBRATION = Path(__file__).with_name("calibration.json")
FEATURES = ("constant", "cosine", "lexical", "margin", "known_share", "context", "mention", "lacks_item")
# "And on Sunday?", "is that one in stock?": few words of its own, so the meaning hangs on what was said before.
_ELLIPTIC_WORDS = 3
_ELLIPTIC_START = re.compile(r"^(?:and|what about|how about|what if|or)\b[ ,]*", re.IGNORECASE)
# An item the caller named makes questions about items likelier than others of the same wording.
_MENTION_BONUS = 0.06
_CONTEXT_BONUS = 0.05
# "On a Sunday" means the item about Sunday, although the one about the whole week may be nearer by this much.
_CASE_REACH = 0.3
_PRONOUN = re.compile(r"\b(?:it|that one|this one|the one|them|they|those|these|one of them|that)\b", re.IGNORECASE)

# Those of them that stand for a thing even when nothing was talked about.
_THING = re.compile(r"\b(?:it|that one|this one|them|those|these)\b", re.IGNORECASE)


@dataclass(frozen=True, slots=True, kw_only=True)
class Calibration:
    """Coefficients of the logistic model, in the order of FEATURES, and where they come from."""

    coefficients: tuple[float, ...]
    provenance: str

    def probability(self, features: Sequence[float]) -> float:
        exponent = sum(weight * value for weight, value in zip(self.coefficients, features, strict=True))
        return 1 / (1 + math.exp(-max(-30.0, min(30.0, exponent))))


class Scope(StrEnum):
    """What a wording may be matched with."""

    ALL = "all"
    ITEMS = "items"
    GROUP = "group"
    INTENTS = "intents"
    UNNAMED = "unnamed"


@dataclass(frozen=True, slots=True, kw_only=True)
class Wording:
    """One way to say what was heard, completed from what was talked about."""

    text: str
    scope: Scope


@dataclass(frozen=True, slots=True, kw_only=True)
class Query:
    """One utterance made ready for search: the first wording is its own, others depend on the day and the topic.

    `possible`: a name that is too uncertain to act on, but worth asking about.
    """

    words: str
    wordings: tuple[Wording, ...]
    mention: Mention | None
    possible: Mention | None = None

    @property
    def texts(self) -> tuple[str, ...]:
        return tuple(wording.text for wording in self.wordings)


@dataclass(frozen=True, slots=True, kw_only=True)
class Hypothesis:
    """One thing the caller may want: an intent, or (intent None) the answer of a knowledge item."""

    intent: Intent | None
    item: Item | None
    score: float
    confidence: float
    features: tuple[float, ...]

    @property
    def name(self) -> str:
        return self.intent.name if self.intent is not None else KNOWLEDGE_INTENT

    @property
    def key(self) -> str:
        return self.intent.name if self.intent is not None else f"item:{self.item.id if self.item is not None else ''}"


@dataclass(frozen=True, slots=True, kw_only=True)
class _Scored:
    intent: Intent | None
    item: Item | None
    match: Match
    score: float
    is_context: bool
    is_unnamed: bool = False


def load_calibration(path: Path = _CALIBRATION) -> Calibration:
    """Return the fitted coefficients. Raises ValueError if they are for other features."""
    fitted = json.loads(path.read_text(encoding="utf-8"))
    if tuple(fitted["features"]) != FEATURES:
        raise ValueError(f"{path} was fitted for other features; run python -m edge.conversation.calibrate")
    return Calibration(coefficients=tuple(fitted["coefficients"]), provenance=fitted["provenance"])


class Understander:
    """Ranks what an utterance may mean; holds no state of a call."""

    def __init__(self, agent: Agent, knowledge: KnowledgeBase, intents: ExampleIndex, calibration: Calibration) -> None:
        self._agent = agent
        self._knowledge = knowledge
        self._intents = intents
        self._by_name = {intent.name: intent for intent in agent.intents}
        self._calibration = calibration
        self._named_sources = [source.name for source in agent.sources if source.mention is not None]

    def prepare(self, text: str, state: DialogueState, today: date, *, believed: Mention | None = None) -> Query:
        """Return what to embed for this utterance; `believed` is a possible name taken for true."""
        request = without_contractions(request_in(text))
        focus = _focus(request)
        found = believed if believed is not None else self._mention(request, today)
        is_sure = found is not None and (found.certainty >= SURE or believed is not None)
        mention = found if is_sure else None
        own = mention.masked if mention is not None else request
        wordings = [Wording(text=own, scope=Scope.ALL)]
        if focus is not None:
            asked = self._mention(focus, today)
            is_named = asked is not None and asked.certainty >= SURE
            wordings.append(Wording(text=asked.masked if asked is not None and is_named else focus, scope=Scope.ALL))
        dated = with_weekdays(request, today)
        generalised = with_classes(request)
        wordings += [Wording(text=text, scope=Scope.ITEMS) for text in (dated, generalised) if text != request]
        wordings += self._in_context(own, mention, self._topic(state, today), with_weekdays(own, today))
        possible = found if not is_sure else None
        return Query(words=dated, wordings=tuple(wordings), mention=mention, possible=possible)

    def _in_context(self, own: str, mention: Mention | None, topic: Item | None, dated: str) -> list[Wording]:
        if topic is None:
            return self._without_topic(own, mention)
        remainder = _ELLIPTIC_START.sub("", dated)
        content = [word for word in words(remainder) if word not in STOPWORDS]
        if topic.group is not None and len(content) <= _ELLIPTIC_WORDS:
            return [Wording(text=f"{topic.group.replace('-', ' ')} {remainder}", scope=Scope.GROUP)]
        called = next((source.mention for source in self._agent.sources if source.name == topic.source), None)
        if called is not None and mention is None and _PRONOUN.search(own):
            return [Wording(text=_PRONOUN.sub(called, own, count=1), scope=Scope.INTENTS)]
        if called is not None and mention is None and len(content) <= _ELLIPTIC_WORDS:
            return [Wording(text=f"{remainder.rstrip('.?!')} of {called}", scope=Scope.INTENTS)]
        return []

    def _without_topic(self, own: str, mention: Mention | None) -> list[Wording]:
        """ "Is it available?" as the first words of a call: about something we have, so that we ask about what."""
        called = next((source.mention for source in self._agent.sources if source.mention is not None), None)
        if called is None or mention is not None or not _THING.search(own):
            return []
        return [Wording(text=_THING.sub(called, own, count=1), scope=Scope.UNNAMED)]

    def rank(
        self, query: Query, vectors: NDArray[np.float32], state: DialogueState, today: date
    ) -> tuple[Hypothesis, ...]:
        """Return what may be meant, best first, at most five. `vectors` belong to `query.texts`."""
        topic = self._topic(state, today)
        scored = self._repeated(query, state)
        for wording, vector in zip(query.wordings, vectors, strict=True):
            if wording.scope not in {Scope.INTENTS, Scope.UNNAMED}:
                group = topic.group if topic is not None and wording.scope is Scope.GROUP else None
                scored += self._scored_items(wording.text, vector, query, today, group)
            if wording.scope in {Scope.ALL, Scope.INTENTS, Scope.UNNAMED}:
                scored += self._scored_intents(wording, vector, query)
        best: dict[str, _Scored] = {}
        for entry in scored:
            key = _key(entry)
            if key not in best or entry.score > best[key].score:
                best[key] = entry
        ranked = _named_case_first(sorted(best.values(), key=lambda entry: -entry.score), query.words)
        own = query.wordings[0].text
        share = max(self._knowledge.known_share(own), self._intents.known_share(own))
        return tuple(self._hypothesis(entry, ranked, query, share) for entry in ranked[:5])

    def _mention(self, text: str, today: date) -> Mention | None:
        found = [self._knowledge.mention(text, source, today) for source in self._named_sources]
        named = (one for one in found if one is not None and not self._is_common_word(one))
        return max(named, key=lambda one: one.certainty, default=None)

    def _is_common_word(self, mention: Mention) -> bool:
        """Whether the name is rather a word that callers use anyway: "what do you charge" names no charger."""
        if mention.certainty >= 1.0 or " " in mention.heard:
            return False
        named = {stem(word) for item in mention.items for name in (item.title, *item.aliases) for word in words(name)}
        is_known = max(self._knowledge.known_share(mention.heard), self._intents.known_share(mention.heard)) >= 1.0
        return is_known and stem(mention.heard) not in named

    def _topic(self, state: DialogueState, today: date) -> Item | None:
        return self._knowledge.item(state.topic_item_id, today) if state.topic_item_id is not None else None

    def _scored_items(
        self, text: str, vector: NDArray[np.float32], query: Query, today: date, group: str | None
    ) -> list[_Scored]:
        """Score items; with `group` only those of it, since the wording supposes it."""
        found: list[_Scored] = []
        for match in self._knowledge.search(text, vector, today):
            item = self._knowledge.item(match.key, today)
            if item is None:
                continue
            varies = item.group is not None and _varies(item, item.group, query.words)
            if group is not None and (item.group != group or not varies):
                continue
            bonus = _CONTEXT_BONUS if group is not None else 0.0
            found.append(
                _Scored(intent=None, item=item, match=match, score=match.score + bonus, is_context=group is not None)
            )
        return found

    def _scored_intents(self, wording: Wording, vector: NDArray[np.float32], query: Query) -> list[_Scored]:
        is_context = wording.scope is Scope.INTENTS
        found: list[_Scored] = []
        for match in self._intents.search(wording.text, vector):
            intent = self._by_name[match.key]
            if (is_context or wording.scope is Scope.UNNAMED) and intent.item is None:
                continue
            bonus = _MENTION_BONUS if intent.item is not None and (query.mention is not None or is_context) else 0.0
            found.append(
                _Scored(
                    intent=intent,
                    item=None,
                    match=match,
                    score=match.score + bonus,
                    is_context=is_context,
                    is_unnamed=wording.scope is Scope.UNNAMED,
                )
            )
        return found

    def _repeated(self, query: Query, state: DialogueState) -> list[_Scored]:
        """ "And the blue one?": nothing but another item, so the question is the one asked before."""
        if query.mention is None or not state.history:
            return []
        rest = [word for word in words(_ELLIPTIC_START.sub("", query.mention.masked)) if word not in STOPWORDS]
        called = [word for source in self._agent.sources if source.mention for word in words(source.mention)]
        asked = [self._by_name[turn.intent] for turn in state.history if turn.intent in self._by_name]
        previous = next((intent for intent in reversed(asked) if intent.item is not None), None)
        if previous is None or not set(rest) <= set(called):
            return []
        match = Match(key=previous.name, cosine=1.0, lexical=1.0)
        return [_Scored(intent=previous, item=None, match=match, score=1.1, is_context=True)]

    def _hypothesis(self, entry: _Scored, ranked: Sequence[_Scored], query: Query, share: float) -> Hypothesis:
        others = [other.score for other in ranked if other is not entry]
        margin = entry.score - max(others, default=0.0)
        has_item = query.mention is not None or entry.is_context or entry.is_unnamed
        features = (
            1.0,
            entry.match.cosine,
            entry.match.lexical,
            margin,
            share,
            float(entry.is_context),
            float(query.mention is not None),
            # "What does bitcoin cost" fits the question about prices, but names nothing we sell.
            float(entry.intent is not None and entry.intent.item is not None and not has_item),
        )
        return Hypothesis(
            intent=entry.intent,
            item=entry.item,
            score=entry.score,
            confidence=self._calibration.probability(features),
            features=features,
        )


def _focus(text: str) -> str | None:
    """Return the question of a text of several sentences, the last one if there are more."""
    sentences = [sentence.strip() for sentence in re.split(r"(?<=[.!?])\s+", text) if sentence.strip()]
    questions = [sentence for sentence in sentences if sentence.endswith("?") and len(sentence.split()) > 2]
    return questions[-1] if questions and len(sentences) > 1 else None


def _named_case_first(ranked: list[_Scored], text: str) -> list[_Scored]:
    """Put the item whose case is named before the best one of its group, if that one's case is not."""
    first = ranked[0].item if ranked else None
    if first is None or first.group is None or _varies(first, first.group, text):
        return ranked
    for entry in ranked[1:]:
        item = entry.item
        is_near = ranked[0].score - entry.score <= _CASE_REACH
        if is_near and item is not None and item.group == first.group and _varies(item, first.group, text):
            promoted = replace(entry, match=ranked[0].match, score=ranked[0].score)
            return [promoted, *(other for other in ranked[1:] if other is not entry)]
    return ranked


def _varies(item: Item, group: str, text: str) -> bool:
    """Whether the item is of the group and the words themselves, not just the context, name its case."""
    said = content_stems(text)
    return item.group == group and any(
        said & content_stems(name) - content_stems(group) for name in (item.title, *item.aliases)
    )


def _key(entry: _Scored) -> str:
    return entry.intent.name if entry.intent is not None else f"item:{entry.item.id if entry.item is not None else ''}"
