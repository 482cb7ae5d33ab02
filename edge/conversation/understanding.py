"""From words to what is wanted, with a calibrated probability that this is right.

Evidence is collected from the examples of intents and from knowledge, by meaning (vectors) and by words; a logistic
model (`calibration.json`, fitted by `calibrate.py`) turns it into a probability. Questions about nothing the agent
knows come out improbable, and the policy declines them.
"""

import json
import math
import re
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from edge.conversation.agent import Agent, Intent
from edge.conversation.dialogue import DialogueState
from edge.conversation.hearing import request_in, with_weekdays, without_contractions
from edge.knowledge.base import KnowledgeBase
from edge.knowledge.examples import ExampleIndex, Match
from edge.knowledge.items import Item
from edge.knowledge.mentions import Mention
from edge.knowledge.words import STOPWORDS, content_stems, words

KNOWLEDGE_INTENT = "knowledge"
FEATURES = ("constant", "cosine", "lexical", "margin", "known_share", "context", "mention")
# "And on Sunday?", "is that one in stock?": few words of its own, so the meaning hangs on what was said before.
_ELLIPTIC_WORDS = 3
_ELLIPTIC_START = re.compile(r"^(?:and|what about|how about|what if|or)\b[ ,]*", re.IGNORECASE)
# An item the caller named makes questions about items likelier than others of the same wording.
_MENTION_BONUS = 0.06
_CONTEXT_BONUS = 0.05


@dataclass(frozen=True, slots=True, kw_only=True)
class Calibration:
    """Coefficients of the logistic model, in the order of FEATURES, and where they come from."""

    coefficients: tuple[float, ...]
    provenance: str

    def probability(self, features: Sequence[float]) -> float:
        exponent = sum(weight * value for weight, value in zip(self.coefficients, features, strict=True))
        return 1 / (1 + math.exp(-max(-30.0, min(30.0, exponent))))


@dataclass(frozen=True, slots=True, kw_only=True)
class Query:
    """One utterance made ready for search. `texts`: what to embed; the second, if any, is the utterance completed
    from what was talked about."""

    words: str
    texts: tuple[str, ...]
    mention: Mention | None
    is_elliptic: bool


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


def load_calibration(path: Path = Path(__file__).with_name("calibration.json")) -> Calibration:
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

    def prepare(self, text: str, state: DialogueState, today: date) -> Query:
        """Return what to embed for this utterance."""
        request = with_weekdays(without_contractions(request_in(text)), today)
        mention = self._mention(request, today)
        own = mention.masked if mention is not None else request
        remainder = _ELLIPTIC_START.sub("", own)
        content = [word for word in words(remainder) if word not in STOPWORDS]
        is_elliptic = len(content) <= _ELLIPTIC_WORDS
        texts = [own]
        topic = self._topic(state, today)
        if is_elliptic and topic is not None and topic.group is not None:
            texts.append(f"{topic.group.replace('-', ' ')} {remainder}")
        return Query(words=request, texts=tuple(texts), mention=mention, is_elliptic=is_elliptic)

    def rank(
        self, query: Query, vectors: NDArray[np.float32], state: DialogueState, today: date
    ) -> tuple[Hypothesis, ...]:
        """Return what may be meant, best first, at most five. `vectors` belong to `query.texts`."""
        scored = self._scored(query.texts[0], vectors[0], query, today, group=None)
        if len(query.texts) > 1:
            topic = self._topic(state, today)
            group = topic.group if topic is not None else None
            scored += self._scored(query.texts[1], vectors[1], query, today, group=group)
        repeated = self._repeated(query, state)
        best: dict[str, _Scored] = {}
        for entry in [*repeated, *scored]:
            key = _key(entry)
            if key not in best or entry.score > best[key].score:
                best[key] = entry
        ranked = sorted(best.values(), key=lambda entry: -entry.score)
        share = max(self._knowledge.known_share(query.texts[0]), self._intents.known_share(query.texts[0]))
        return tuple(self._hypothesis(entry, ranked, query, share) for entry in ranked[:5])

    def _mention(self, text: str, today: date) -> Mention | None:
        found = [self._knowledge.mention(text, source, today) for source in self._named_sources]
        return max((one for one in found if one is not None), key=lambda one: one.certainty, default=None)

    def _topic(self, state: DialogueState, today: date) -> Item | None:
        return self._knowledge.item(state.topic_item_id, today) if state.topic_item_id is not None else None

    def _scored(
        self, text: str, vector: NDArray[np.float32], query: Query, today: date, group: str | None
    ) -> list[_Scored]:
        """Score intents and items for one wording; with `group` only items of it, since the wording supposes it."""
        found: list[_Scored] = []
        for match in self._knowledge.search(text, vector, today):
            item = self._knowledge.item(match.key, today)
            if item is None or (group is not None and not _varies(item, group, query.words)):
                continue
            bonus = _CONTEXT_BONUS if group is not None else 0.0
            found.append(
                _Scored(intent=None, item=item, match=match, score=match.score + bonus, is_context=group is not None)
            )
        if group is None:
            for match in self._intents.search(text, vector):
                intent = self._by_name[match.key]
                bonus = _MENTION_BONUS if intent.item is not None and query.mention is not None else 0.0
                found.append(
                    _Scored(intent=intent, item=None, match=match, score=match.score + bonus, is_context=False)
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
        features = (
            1.0,
            entry.match.cosine,
            entry.match.lexical,
            margin,
            share,
            float(entry.is_context),
            float(query.mention is not None),
        )
        return Hypothesis(
            intent=entry.intent,
            item=entry.item,
            score=entry.score,
            confidence=self._calibration.probability(features),
            features=features,
        )


def _varies(item: Item, group: str, text: str) -> bool:
    """Whether the item is of the group and the words themselves, not just the context, name its case."""
    said = content_stems(text)
    return item.group == group and any(
        said & content_stems(name) - content_stems(group) for name in (item.title, *item.aliases)
    )


def _key(entry: _Scored) -> str:
    return entry.intent.name if entry.intent is not None else f"item:{entry.item.id if entry.item is not None else ''}"
