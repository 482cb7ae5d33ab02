"""The half of a conversation outside flows: what an open question means, and the answer, question back or refusal."""

from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from edge.call.ports import Embedder, Generator, Purpose
from edge.conversation import hearing
from edge.conversation.agent import Agent, Intent, ReplyStyle
from edge.conversation.dialogue import (
    AnswerKind,
    Citation,
    DialogueState,
    EndCall,
    Expectation,
    Pending,
    PendingKind,
    Reply,
    Speech,
    SpeechSource,
    Understanding,
)
from edge.conversation.flow_dialogue import FlowDialogue
from edge.conversation.grounding import worded
from edge.conversation.policy import Decision, decide
from edge.conversation.prepared import fitting_answer
from edge.conversation.replies import YES_NO, Replies, Turn, certain, item_slot, templates
from edge.conversation.slots import likely_yes_or_no
from edge.conversation.template import TemplateError, render
from edge.conversation.understanding import Hypothesis, Query, Understander
from edge.knowledge.base import KnowledgeBase
from edge.knowledge.items import Item
from edge.knowledge.mentions import Mention
from edge.knowledge.words import STOPWORDS, words

# The same words come again when a speculative reply is made anew; a call has few turns in flight.
_REMEMBERED_VECTORS = 64
# How many items an ambiguous name lists; a caller cannot keep more in mind.
_LISTED_ITEMS = 3
_LONGEST_CHOICE_WORDS = 6
# With a product surely named, asking back is better than "I don't know" from this confidence on.
_LEAST_ABOUT_NAMED = 0.2
# The word such items are called by, and one more that was misheard.
_WORDS_BESIDE_NAME = 2


class OpenQuestions:
    """Answers open questions to one agent; holds no state of a call."""

    def __init__(
        self,
        agent: Agent,
        knowledge: KnowledgeBase,
        understander: Understander,
        embedder: Embedder,
        *,
        flows: FlowDialogue,
        generator: Generator | None,
    ) -> None:
        self._agent = agent
        self._knowledge = knowledge
        self._understander = understander
        self._embedder = embedder
        self._flows = flows
        self._replies = Replies(agent)
        self._generator = generator
        self._vectors: OrderedDict[str, NDArray[np.float32]] = OrderedDict()

    async def answered(self, turn: Turn, pending: Pending) -> Reply | None:
        """Answer a question asked outside flows; None when the words are something else."""
        answer = likely_yes_or_no(turn.heard)
        state = replace(turn.state, pending=None, expectation=Expectation())
        match pending.kind:
            case PendingKind.HUMAN if answer is True:
                return self._replies.escalate(turn, state, "not_known", certain("human"))
            case PendingKind.MEANING if answer is True:
                intent = self._agent.intent(pending.intent)
                item = self._knowledge.item(pending.item_id, turn.today) if pending.item_id is not None else None
                mention = Mention(items=(item,), certainty=1.0, masked=turn.heard) if item is not None else None
                return await self.act(turn, intent, item, mention, certain(pending.intent))
            case PendingKind.HUMAN | PendingKind.MEANING if answer is False and len(words(turn.heard)) <= 4:
                texts = (self._agent.phrases.anything_else,)
                return self._replies.reply(turn, replace(state, misunderstandings=0), templates(*texts), certain("no"))
            case PendingKind.ITEM:
                intent = self._agent.intent(pending.intent)
                chosen = self._chosen(turn, pending.choices)
                if chosen is not None and intent is not None:
                    mention = Mention(items=(chosen,), certainty=1.0, masked=turn.heard)
                    return await self.act(turn, intent, None, mention, certain(intent.name))
                query = self._understander.prepare(turn.heard, turn.state, turn.today)
                if intent is not None and query.mention is not None and len(words(query.mention.masked)) <= 6:
                    return await self.act(turn, intent, None, query.mention, certain(intent.name))
        return None

    async def respond(self, turn: Turn) -> Reply:
        """Return the reply to words that answer no question of ours. Raises what the embedder raises."""
        query, ranked = await self.understand(turn)
        decision = decide(self._agent.policy, ranked, turn.heard)
        best = ranked[0] if ranked else None
        if decision is not Decision.ANSWER and query.possible is not None:
            asked = await self._ask_name(turn, query.possible)
            if asked is not None:
                return asked
        if best is None or decision in {Decision.DECLINE, Decision.NOT_UNDERSTOOD}:
            about = _about_named(ranked, query)
            return self._ask_meaning(turn, about, query.mention) if about else self._decline(turn, decision, best)
        if decision is Decision.CONFIRM:
            return self._ask_meaning(turn, best, query.mention)
        understanding = Understanding(intent=best.name, confidence=best.confidence, slots=item_slot(best.item))
        return await self.act(turn, best.intent, best.item, query.mention, understanding)

    async def understand(self, turn: Turn) -> tuple[Query, tuple[Hypothesis, ...]]:
        """Return the query made of the words and what they may mean, best first."""
        query = self._understander.prepare(turn.heard, turn.state, turn.today)
        vectors = await self._embed(query.texts, turn.purpose)
        return query, self._understander.rank(query, vectors, turn.state, turn.today)

    async def act(
        self,
        turn: Turn,
        intent: Intent | None,
        item: Item | None,
        mention: Mention | None,
        understanding: Understanding,
    ) -> Reply:
        """Do what an understood intent asks for."""
        state = replace(turn.state, pending=None, expectation=Expectation(), misunderstandings=0)
        if intent is None or intent.knowledge is not None:
            style = intent.style if intent is not None else ReplyStyle.SPEAK
            found = item if intent is None else await self._best_item(turn, intent.knowledge or "")
            return await self._answer_item(turn, state, found, understanding, style)
        if intent.escalate is not None:
            return self._replies.escalate(turn, state, intent.escalate, understanding)
        if intent.goodbye:
            end = EndCall(reason="goodbye")
            return self._replies.reply(turn, state, templates(self._agent.phrases.goodbye), understanding, action=end)
        if intent.flow is not None:
            return self._flows.start(turn, state, self._agent.flows[intent.flow], mention, understanding)
        if intent.item is not None:
            return self._answer_about(turn, state, intent, mention, understanding)
        return self._replies.reply(turn, state, templates(intent.answers[0].text), understanding)

    def _chosen(self, turn: Turn, choices: Sequence[str]) -> Item | None:
        """Return which of the offered items the words pick: "the 300", "the bigger Pro one"."""
        heard = set(words(turn.heard))
        offered = [item for item_id in choices if (item := self._knowledge.item(item_id, turn.today)) is not None]
        if len(heard) > _LONGEST_CHOICE_WORDS:
            return None
        shared = [heard & _distinct_words(item, offered) for item in offered]
        picked = [item for item, common in zip(offered, shared, strict=True) if common]
        return picked[0] if len(picked) == 1 else None

    async def _embed(self, texts: Sequence[str], purpose: Purpose) -> NDArray[np.float32]:
        missing = [text for text in texts if text not in self._vectors]
        if missing:
            for text, vector in zip(missing, await self._embedder.embed(missing, purpose), strict=True):
                self._vectors[text] = vector
        vectors = np.stack([self._vectors[text] for text in texts])
        while len(self._vectors) > _REMEMBERED_VECTORS:
            self._vectors.popitem(last=False)
        return vectors

    def _decline(self, turn: Turn, decision: Decision, best: Hypothesis | None) -> Reply:
        count = turn.state.misunderstandings + 1
        understanding = Understanding(intent=decision.value, confidence=best.confidence if best is not None else 0.0)
        if hearing.is_fragment(turn.heard):
            # More is likely to come; if it does not, this is said.
            understanding = replace(understanding, confidence=0.0)
        if count >= self._agent.policy.misunderstandings:
            reason = "not_known" if decision is Decision.DECLINE else "misunderstood"
            return self._replies.escalate(turn, turn.state, reason, understanding, is_complete=False)
        phrases = self._agent.phrases
        if decision is Decision.NOT_UNDERSTOOD:
            state = replace(turn.state, misunderstandings=count, pending=None, expectation=Expectation())
            text = phrases.not_understood[(count - 1) % len(phrases.not_understood)]
            return self._replies.reply(turn, state, templates(text), understanding, is_complete=False)
        pending = Pending(kind=PendingKind.HUMAN)
        state = replace(turn.state, misunderstandings=count, pending=pending, expectation=YES_NO)
        text = phrases.not_known[(count - 1) % len(phrases.not_known)]
        return self._replies.reply(turn, state, templates(text), understanding, is_complete=False)

    async def _ask_name(self, turn: Turn, possible: Mention) -> Reply | None:
        """Ask whether a name half understood was meant, if the question makes sense with it."""
        query = self._understander.prepare(turn.heard, turn.state, turn.today, believed=possible)
        ranked = self._understander.rank(query, await self._embed(query.texts, turn.purpose), turn.state, turn.today)
        best = ranked[0] if ranked else None
        if best is None or best.intent is None or best.confidence < self._agent.policy.bands.confirm:
            return None
        if best.intent.item is None:
            return None
        if len(possible.items) > 1:
            understanding = Understanding(intent=best.name, confidence=best.confidence)
            return self._ask_item(turn, turn.state, best.intent, possible.items, understanding)
        item = possible.items[0]
        text = render(self._agent.phrases.confirm, {"question": f"the {item.title}"})
        pending = Pending(kind=PendingKind.MEANING, intent=best.intent.name, item_id=item.id)
        understanding = Understanding(intent=best.name, confidence=best.confidence, slots=item_slot(item))
        state = replace(turn.state, pending=pending, expectation=YES_NO)
        return self._replies.reply(turn, state, templates(text), understanding, is_complete=False)

    def _ask_meaning(self, turn: Turn, best: Hypothesis, mention: Mention | None) -> Reply:
        named = mention.items[0].title if mention is not None and len(mention.items) == 1 else None
        question = _question_about(best, named)
        text = render(self._agent.phrases.confirm, {"question": question})
        item_id = best.item.id if best.item is not None else None
        pending = Pending(kind=PendingKind.MEANING, intent=best.name, item_id=item_id)
        topic = mention.items[0].id if mention is not None and len(mention.items) == 1 else turn.state.topic_item_id
        state = replace(turn.state, pending=pending, expectation=YES_NO, topic_item_id=topic)
        understanding = Understanding(intent=best.name, confidence=best.confidence, slots=item_slot(best.item))
        return self._replies.reply(turn, state, templates(text), understanding, is_complete=False)

    async def _best_item(self, turn: Turn, source: str) -> Item | None:
        query = self._understander.prepare(turn.heard, turn.state, turn.today)
        vectors = await self._embed(query.texts, turn.purpose)
        for match in self._knowledge.search(query.texts[0], vectors[0], turn.today):
            item = self._knowledge.item(match.key, turn.today)
            if item is not None and item.source == source:
                return item
        return None

    async def _answer_item(
        self, turn: Turn, state: DialogueState, item: Item | None, understanding: Understanding, style: ReplyStyle
    ) -> Reply:
        if item is None:
            return self._decline(turn, Decision.DECLINE, None)
        citation = Citation(item_id=item.id, version=item.version)
        text, source = item.answer, SpeechSource.PASSAGE
        if style is ReplyStyle.GENERATE and self._generator is not None:
            budget_s = min(self._agent.policy.generation_budget_s, turn.purpose.budget_s)
            generated = await worded(self._generator, turn.heard, item.answer, turn.purpose, budget_s)
            if generated is not None:
                text, source = generated, SpeechSource.GENERATED
        speech = Speech(text=text, source=source, citation=citation)
        return self._replies.reply(turn, replace(state, topic_item_id=item.id), (speech,), understanding)

    def _answer_about(
        self, turn: Turn, state: DialogueState, intent: Intent, mention: Mention | None, understanding: Understanding
    ) -> Reply:
        """Answer a question about a named item, or about the one talked of; ask which one if that is open."""
        named = tuple(item for item in mention.items if item.source == intent.item) if mention is not None else ()
        topic = self._knowledge.item(state.topic_item_id, turn.today) if state.topic_item_id is not None else None
        if not named and topic is not None and topic.source == intent.item:
            named = (topic,)
        if len(named) != 1:
            return self._ask_item(turn, state, intent, named, understanding)
        item = named[0]
        answer = fitting_answer(intent.answers, item)
        if answer is None:
            return self._decline(turn, Decision.DECLINE, None)
        try:
            text = render(answer.text, item.attributes)
        except TemplateError:
            # The item lacks this attribute: we do not know it.
            return self._decline(turn, Decision.DECLINE, None)
        citation = Citation(item_id=item.id, version=item.version)
        speech = Speech(text=text, source=SpeechSource.TEMPLATE, citation=citation)
        known = replace(understanding, slots={"item": item.id})
        return self._replies.reply(turn, replace(state, topic_item_id=item.id), (speech,), known)

    def _ask_item(
        self, turn: Turn, state: DialogueState, intent: Intent, named: Sequence[Item], understanding: Understanding
    ) -> Reply:
        listed = [item.title for item in named[:_LISTED_ITEMS]]
        text = self._agent.phrases.which_item
        expected = Expectation()
        if listed:
            options = f"the {', the '.join(listed[:-1])}, or the {listed[-1]}"
            text = f"{text} {options[0].upper()}{options[1:]}?"
            expected = Expectation(kind=AnswerKind.CHOICE, choices=tuple(listed))
        choices = tuple(item.id for item in named[:_LISTED_ITEMS])
        pending = Pending(kind=PendingKind.ITEM, intent=intent.name, choices=choices)
        asked = replace(state, pending=pending, expectation=expected)
        return self._replies.reply(turn, asked, templates(text), understanding)


def _about_named(ranked: Sequence[Hypothesis], query: Query) -> Hypothesis | None:
    """Return the likeliest question about the item that was surely named, if it is not far-fetched."""
    mention = query.mention
    if mention is None or len(mention.items) != 1:
        return None
    likely = (one for one in ranked if one.intent is not None and one.intent.item == mention.items[0].source)
    best = next(likely, None)
    # Where next to nothing was said beside the name, there is nothing else that could be wanted.
    beside = [word for word in words(mention.masked) if word not in STOPWORDS and not word.isdigit()]
    least = _LEAST_ABOUT_NAMED if len(beside) > _WORDS_BESIDE_NAME else 0.0
    return best if best is not None and best.confidence >= least else None


def _question_about(best: Hypothesis, named: str | None) -> str:
    """Return what a hypothesis would be asked back as: "the price of the NovaBook"."""
    if best.intent is None:
        return best.item.title if best.item is not None else ""
    return render(best.intent.title, {"item": f"the {named}" if named is not None else "it"})


def _distinct_words(item: Item, others: Sequence[Item]) -> set[str]:
    """Return the words of the title that no other offered item has."""
    shared = {word for other in others if other.id != item.id for word in words(other.title)}
    return set(words(item.title)) - shared
