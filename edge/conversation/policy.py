"""The deterministic decision: given what the caller may mean, what the agent does. Pure."""

import re
from collections.abc import Mapping, Sequence
from enum import StrEnum

from edge.conversation.agent import Policy
from edge.conversation.understanding import Hypothesis
from edge.knowledge.words import words


class Decision(StrEnum):
    """What to do with the best hypothesis."""

    ANSWER = "answer"
    CONFIRM = "confirm"
    DECLINE = "decline"
    NOT_UNDERSTOOD = "not_understood"


# Fewer words that are known nowhere are noise rather than a question we cannot answer.
_QUESTION_WORDS = 3

_SURE_DESPITE_INSTRUCTIONS = 0.9
# Callers do not command the agent; such words are at best a question we cannot answer.
_INSTRUCTIONS = re.compile(
    r"\b(?:ignore|forget|disregard)\b.{0,30}\binstructions?\b|\bsystem prompt\b|\byou are now\b|\bpretend (?:to|you)\b",
    re.IGNORECASE,
)


def decide(policy: Policy, ranked: Sequence[Hypothesis], heard: str) -> Decision:
    """Return what to do: act when sure, ask when likely, else say honestly that we do not know."""
    confidence = ranked[0].confidence if ranked else 0.0
    if _INSTRUCTIONS.search(heard) and confidence < _SURE_DESPITE_INSTRUCTIONS:
        return Decision.DECLINE
    if confidence >= policy.bands.answer:
        return Decision.ANSWER
    if confidence >= policy.bands.confirm:
        return Decision.CONFIRM
    return Decision.DECLINE if len(words(heard)) >= _QUESTION_WORDS else Decision.NOT_UNDERSTOOD


def sensitive_topic(sensitive: Mapping[str, tuple[str, ...]], heard: str) -> str | None:
    """Return the topic, if any, that only humans may handle and that the words touch."""
    lowered = " ".join(words(heard))
    for topic, phrases in sensitive.items():
        if any(re.search(rf"\b{re.escape(' '.join(words(phrase)))}\b", lowered) for phrase in phrases):
            return topic
    return None
