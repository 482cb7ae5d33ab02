"""One agent's side of any number of calls: from what was heard to what is said and done next.

`AgentConversation` holds only what is fixed for an agent; everything about a call is in its `DialogueState`. Nothing
here has side effects, so replies can be prepared speculatively and dropped. Actions are carried out by the call.
"""

from collections import OrderedDict
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from datetime import date, datetime
from pathlib import Path
from typing import Self
from zoneinfo import ZoneInfo

import numpy as np
from numpy.typing import NDArray

from edge.call.ports import Embedder, Generator, Priority, Purpose, TransferOutcome
from edge.conversation import flows, hearing
from edge.conversation.agent import Agent, Ask, Confirm, Flow, Intent, ReplyStyle, SlotKind, UseTool
from edge.conversation.commands import Command, command_in
from edge.conversation.dialogue import (
    Action,
    AnswerKind,
    Citation,
    DialogueState,
    EndCall,
    Exchange,
    Expectation,
    Pending,
    PendingKind,
    Reply,
    Speech,
    SpeechSource,
    ToolResult,
    Understanding,
)
from edge.conversation.grounding import worded
from edge.conversation.handover import hand_over
from edge.conversation.policy import Decision, decide, sensitive_topic
from edge.conversation.prepared import fitting_answer, fixed_texts
from edge.conversation.slots import Filled, fill, yes_or_no
from edge.conversation.template import TemplateError, render
from edge.conversation.understanding import Hypothesis, Query, Understander, load_calibration
from edge.knowledge.base import KnowledgeBase, open_knowledge
from edge.knowledge.examples import Example, ExampleIndex
from edge.knowledge.items import Item, load_items
from edge.knowledge.mentions import Mention
from edge.knowledge.vectors import embed_texts
from edge.knowledge.words import words

# The same words come again when a speculative reply is made anew; a call has few turns in flight.
_REMEMBERED_VECTORS = 64
# How many items an ambiguous name lists; a caller cannot keep more in mind.
_LISTED_ITEMS = 3
_LONGEST_CHOICE_WORDS = 6
# With a product surely named, asking back is better than "I don't know" from this confidence on.
_LEAST_ABOUT_NAMED = 0.2
_YES_NO = Expectation(kind=AnswerKind.YES_NO)
# Replies that need no model.
_NOBODY = Purpose(tenant="", call_id="", priority=Priority.SHADOW, budget_s=0.0)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Turn:
    """One thing heard in one state."""

    state: DialogueState
    heard: str
    purpose: Purpose
    today: date


class AgentConversation:
    """The conversation of one agent. Safe to share between calls; `respond` may be called again and dropped."""

    def __init__(
        self,
        agent: Agent,
        knowledge: KnowledgeBase,
        understander: Understander,
        embedder: Embedder,
        *,
        generator: Generator | None = None,
        now: Callable[[], datetime] | None = None,
    ) -> None:
        self.agent = agent
        self._knowledge = knowledge
        self._understander = understander
        self._embedder = embedder
        self._generator = generator
        zone = ZoneInfo(agent.timezone)
        self._now = now if now is not None else lambda: datetime.now(zone)
        self._vectors: OrderedDict[str, NDArray[np.float32]] = OrderedDict()

    @classmethod
    async def load(
        cls,
        agent: Agent,
        embedder: Embedder,
        *,
        cache: Path | None,
        generator: Generator | None = None,
        now: Callable[[], datetime] | None = None,
    ) -> Self:
        """Read the agent's knowledge and compute every vector it needs; `cache` keeps them between starts.

        Raises KnowledgeInvalidError and what the embedder raises.
        """
        knowledge, understander = await open_understander(agent, embedder, cache=cache)
        return cls(agent, knowledge, understander, embedder, generator=generator, now=now)

    def opening(self) -> Reply:
        """Return the greeting, with the question for consent if the agent needs one."""
        consent = self.agent.consent
        texts = (self.agent.greeting,) if consent is None else (self.agent.greeting, consent.prompt)
        pending = None if consent is None else Pending(kind=PendingKind.CONSENT)
        state = DialogueState(
            pending=pending,
            has_consent=consent is None,
            expectation=Expectation() if consent is None else _YES_NO,
        )
        turn = _Turn(state=state, heard="", purpose=_NOBODY, today=self._today())
        return self._reply(turn, state, _templates(*texts), _certain("opening"))

    async def respond(self, state: DialogueState, heard: str, purpose: Purpose) -> Reply:
        """Return the reply to what was heard. Raises what the embedder raises."""
        turn = _Turn(state=state, heard=hearing.cleaned(heard), purpose=purpose, today=self._today())
        if not turn.heard:
            return Reply(state=state, understanding=_certain("nothing", 0.0), speeches=(), is_complete=False)
        reply = self._anywhere(turn)
        if reply is None and state.flow is not None:
            reply = await self._in_flow(turn, self.agent.flows[state.flow])
        if reply is None and state.pending is not None:
            reply = await self._pending(turn, state.pending)
        return reply if reply is not None else await self._open(turn)

    async def digits(self, state: DialogueState, digits: str, purpose: Purpose) -> Reply:
        """Return the reply to keys pressed: an answer if digits were asked for, 1 and 2 for yes and no, 0 for a
        human."""
        if state.expectation.kind is AnswerKind.YES_NO and digits.strip("#") in {"1", "2"}:
            return await self.respond(state, "yes" if digits[0] == "1" else "no", purpose)
        if state.flow is None and digits.strip("#") == "0":
            turn = _Turn(state=state, heard=digits, purpose=purpose, today=self._today())
            return self._escalate(turn, state, "asked_for_human", _certain("human"))
        if digits.strip("#*"):
            return await self.respond(state, " ".join(digits.strip("#*")), purpose)
        return await self.respond(state, "go back" if state.flow is not None else "repeat that", purpose)

    async def after_tool(self, state: DialogueState, result: ToolResult) -> Reply:
        """Return what follows a tool: the flow goes on with its fields, or the failure is said honestly."""
        turn = _Turn(state=state, heard="", purpose=_NOBODY, today=self._today())
        flow = self.agent.flows.get(state.flow or "")
        act = flow.steps[state.step].act if flow is not None and state.step < len(flow.steps) else None
        understanding = _certain(f"tool:{result.tool}")
        if flow is None or not isinstance(act, UseTool):
            return self._reply(turn, _left(state), _templates(self.agent.phrases.anything_else), understanding)
        if result.error is None:
            merged = replace(state, slots={**state.slots, **result.fields})
            try:
                return self._walk(turn, merged, state.step + 1, understanding, source=SpeechSource.TOOL)
            except TemplateError:
                # The service answered without a field the flow speaks: as good as no answer.
                pass
        if act.hand_over:
            return self._escalate(turn, state, "tool_failed", understanding, act.failed)
        return self._reply(
            turn,
            replace(_left(state), pending=Pending(kind=PendingKind.HUMAN), expectation=_YES_NO),
            _templates(act.failed),
            understanding,
        )

    def after_transfer_failed(self, state: DialogueState, outcome: TransferOutcome) -> Reply:
        """Return what to say when no human could be reached; the caller is still with us."""
        texts = self.agent.phrases.transfer_failed
        turn = _Turn(state=state, heard="", purpose=_NOBODY, today=self._today())
        text = texts.get(outcome.value, texts["unreachable"])
        return self._reply(turn, _left(state), _templates(text), _certain("transfer_failed"))

    def no_input(self, state: DialogueState, count: int) -> Reply:
        """Return what to say to a caller silent for the `count`-th time in a row (from 1); after the last text the
        call ends."""
        texts = self.agent.phrases.no_input
        turn = _Turn(state=state, heard="", purpose=_NOBODY, today=self._today())
        if count > len(texts):
            end = EndCall(reason="silence")
            speeches = _templates(self.agent.phrases.silence_goodbye)
            return self._reply(turn, state, speeches, _certain("no_input"), action=end)
        question = self._open_question(state)
        speeches = _templates(texts[count - 1], *question)
        return self._reply(turn, state, speeches, _certain("no_input"))

    def resume(self, state: DialogueState) -> Reply:
        """Return what to say when the call goes on after an interruption on our side."""
        turn = _Turn(state=state, heard="", purpose=_NOBODY, today=self._today())
        again = self._open_question(state) or ((state.last_speech,) if state.last_speech else ())
        return self._reply(turn, state, _templates(self.agent.phrases.resume, *again), _certain("resume"))

    def heard_only(self, state: DialogueState, heard_text: str) -> DialogueState:
        """Return the state corrected to what the caller heard of the last reply before talking over it."""
        history = state.history
        if history:
            history = (*history[:-1], replace(history[-1], agent=heard_text))
        pending = state.pending
        if pending is not None and pending.kind is PendingKind.CONSENT and self.agent.consent is not None:
            heard_whole = self._holds_prompt(heard_text)
            pending = replace(pending, is_heard=pending.is_heard and heard_whole)
        return replace(state, history=history, pending=pending)

    def fixed_texts(self) -> tuple[str, ...]:
        """Return every text this agent may say that needs no value: what to prepare as audio."""
        return tuple(dict.fromkeys(fixed_texts(self.agent, self._knowledge.items(self._today()))))

    def _anywhere(self, turn: _Turn) -> Reply | None:
        """Answer what comes before everything else: sensitive topics, "say that again", consent, a human."""
        state = turn.state
        if (topic := sensitive_topic(self.agent.policy.sensitive, turn.heard)) is not None:
            return self._escalate(turn, state, topic, _certain("sensitive"))
        if command_in(turn.heard) is Command.REPEAT and state.last_speech:
            return self._reply(turn, state, _templates(state.last_speech), _certain(Command.REPEAT))
        if state.pending is not None and state.pending.kind is PendingKind.CONSENT:
            return self._consent(turn, state.pending)
        if command_in(turn.heard) is Command.HUMAN:
            return self._escalate(turn, state, "asked_for_human", _certain(Command.HUMAN))
        return None

    # -- consent and other questions outside flows

    def _consent(self, turn: _Turn, pending: Pending) -> Reply:
        consent = self.agent.consent
        answer = yes_or_no(turn.heard)
        if consent is None or (answer and pending.is_heard):
            state = replace(turn.state, pending=None, has_consent=True, expectation=Expectation(), misunderstandings=0)
            accepted = () if consent is None else (consent.accepted,)
            return self._reply(turn, state, _templates(*accepted), _certain("consent_given"))
        if answer is False:
            return self._escalate(turn, turn.state, "consent_declined", _certain("consent_declined"), consent.declined)
        if turn.state.misunderstandings >= self.agent.policy.misunderstandings:
            return self._escalate(turn, turn.state, "consent_unclear", _certain("consent_unclear", 0.0))
        asked = replace(
            turn.state,
            pending=Pending(kind=PendingKind.CONSENT),
            expectation=_YES_NO,
            misunderstandings=turn.state.misunderstandings + 1,
        )
        text = consent.again if pending.is_heard else consent.prompt
        return self._reply(turn, asked, _templates(text), _certain("consent_unclear", 0.0), is_complete=False)

    async def _pending(self, turn: _Turn, pending: Pending) -> Reply | None:
        """Answer a question asked outside flows; None when the words are something else."""
        answer = yes_or_no(turn.heard)
        state = replace(turn.state, pending=None, expectation=Expectation())
        match pending.kind:
            case PendingKind.HUMAN if answer is True:
                return self._escalate(turn, state, "not_known", _certain("human"))
            case PendingKind.MEANING if answer is True:
                intent = self.agent.intent(pending.intent)
                item = self._knowledge.item(pending.item_id, turn.today) if pending.item_id is not None else None
                mention = Mention(items=(item,), certainty=1.0, masked=turn.heard) if item is not None else None
                return await self._act(turn, intent, item, mention, _certain(pending.intent))
            case PendingKind.HUMAN | PendingKind.MEANING if answer is False and len(words(turn.heard)) <= 4:
                texts = (self.agent.phrases.anything_else,)
                return self._reply(turn, replace(state, misunderstandings=0), _templates(*texts), _certain("no"))
            case PendingKind.ITEM:
                intent = self.agent.intent(pending.intent)
                chosen = self._chosen(turn, pending.choices)
                if chosen is not None and intent is not None:
                    mention = Mention(items=(chosen,), certainty=1.0, masked=turn.heard)
                    return await self._act(turn, intent, None, mention, _certain(intent.name))
                query = self._understander.prepare(turn.heard, turn.state, turn.today)
                if intent is not None and query.mention is not None and len(words(query.mention.masked)) <= 6:
                    return await self._act(turn, intent, None, query.mention, _certain(intent.name))
        return None

    def _chosen(self, turn: _Turn, choices: Sequence[str]) -> Item | None:
        """Return which of the offered items the words pick: "the 300", "the bigger Pro one"."""
        heard = set(words(turn.heard))
        offered = [item for item_id in choices if (item := self._knowledge.item(item_id, turn.today)) is not None]
        if len(heard) > _LONGEST_CHOICE_WORDS:
            return None
        shared = [heard & _distinct_words(item, offered) for item in offered]
        picked = [item for item, common in zip(offered, shared, strict=True) if common]
        return picked[0] if len(picked) == 1 else None

    def _holds_prompt(self, heard_text: str) -> bool:
        consent = self.agent.consent
        return consent is not None and " ".join(words(consent.prompt)) in " ".join(words(heard_text))

    # -- open conversation

    async def _open(self, turn: _Turn) -> Reply:
        query, ranked = await self._understand(turn)
        decision = decide(self.agent.policy, ranked, turn.heard)
        best = ranked[0] if ranked else None
        if decision is not Decision.ANSWER and query.possible is not None:
            asked = await self._ask_name(turn, query.possible)
            if asked is not None:
                return asked
        if best is None or decision in {Decision.DECLINE, Decision.NOT_UNDERSTOOD}:
            about = _about_named(ranked, query.mention)
            return self._ask_meaning(turn, about, query.mention) if about else self._decline(turn, decision, best)
        if decision is Decision.CONFIRM:
            return self._ask_meaning(turn, best, query.mention)
        understanding = Understanding(intent=best.name, confidence=best.confidence, slots=_item_slot(best.item))
        return await self._act(turn, best.intent, best.item, query.mention, understanding)

    async def _understand(self, turn: _Turn) -> tuple[Query, tuple[Hypothesis, ...]]:
        query = self._understander.prepare(turn.heard, turn.state, turn.today)
        vectors = await self._embed(query.texts, turn.purpose)
        return query, self._understander.rank(query, vectors, turn.state, turn.today)

    async def _embed(self, texts: Sequence[str], purpose: Purpose) -> NDArray[np.float32]:
        missing = [text for text in texts if text not in self._vectors]
        if missing:
            for text, vector in zip(missing, await self._embedder.embed(missing, purpose), strict=True):
                self._vectors[text] = vector
        vectors = np.stack([self._vectors[text] for text in texts])
        while len(self._vectors) > _REMEMBERED_VECTORS:
            self._vectors.popitem(last=False)
        return vectors

    def _decline(self, turn: _Turn, decision: Decision, best: Hypothesis | None) -> Reply:
        count = turn.state.misunderstandings + 1
        understanding = Understanding(intent=decision.value, confidence=best.confidence if best is not None else 0.0)
        if hearing.is_fragment(turn.heard):
            # More is likely to come; if it does not, this is said.
            understanding = replace(understanding, confidence=0.0)
        if count >= self.agent.policy.misunderstandings:
            reason = "not_known" if decision is Decision.DECLINE else "misunderstood"
            return self._escalate(turn, turn.state, reason, understanding, is_complete=False)
        phrases = self.agent.phrases
        if decision is Decision.NOT_UNDERSTOOD:
            state = replace(turn.state, misunderstandings=count, pending=None, expectation=Expectation())
            text = phrases.not_understood[(count - 1) % len(phrases.not_understood)]
            return self._reply(turn, state, _templates(text), understanding, is_complete=False)
        pending = Pending(kind=PendingKind.HUMAN)
        state = replace(turn.state, misunderstandings=count, pending=pending, expectation=_YES_NO)
        text = phrases.not_known[(count - 1) % len(phrases.not_known)]
        return self._reply(turn, state, _templates(text), understanding, is_complete=False)

    async def _ask_name(self, turn: _Turn, possible: Mention) -> Reply | None:
        """Ask whether a name half understood was meant, if the question makes sense with it."""
        query = self._understander.prepare(turn.heard, turn.state, turn.today, believed=possible)
        ranked = self._understander.rank(query, await self._embed(query.texts, turn.purpose), turn.state, turn.today)
        best = ranked[0] if ranked else None
        if best is None or best.intent is None or best.confidence < self.agent.policy.bands.confirm:
            return None
        if best.intent.item is None or len(possible.items) != 1:
            return None
        item = possible.items[0]
        text = render(self.agent.phrases.confirm, {"question": f"the {item.title}"})
        pending = Pending(kind=PendingKind.MEANING, intent=best.intent.name, item_id=item.id)
        understanding = Understanding(intent=best.name, confidence=best.confidence, slots=_item_slot(item))
        state = replace(turn.state, pending=pending, expectation=_YES_NO)
        return self._reply(turn, state, _templates(text), understanding, is_complete=False)

    def _ask_meaning(self, turn: _Turn, best: Hypothesis, mention: Mention | None) -> Reply:
        named = mention.items[0].title if mention is not None and len(mention.items) == 1 else None
        question = _question_about(best, named)
        text = render(self.agent.phrases.confirm, {"question": question})
        item_id = best.item.id if best.item is not None else None
        pending = Pending(kind=PendingKind.MEANING, intent=best.name, item_id=item_id)
        topic = mention.items[0].id if mention is not None and len(mention.items) == 1 else turn.state.topic_item_id
        state = replace(turn.state, pending=pending, expectation=_YES_NO, topic_item_id=topic)
        understanding = Understanding(intent=best.name, confidence=best.confidence, slots=_item_slot(best.item))
        return self._reply(turn, state, _templates(text), understanding, is_complete=False)

    async def _act(
        self,
        turn: _Turn,
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
            return self._escalate(turn, state, intent.escalate, understanding)
        if intent.goodbye:
            end = EndCall(reason="goodbye")
            return self._reply(turn, state, _templates(self.agent.phrases.goodbye), understanding, action=end)
        if intent.flow is not None:
            flow = self.agent.flows[intent.flow]
            slots = self._first_slots(flow, turn, mention)
            started = replace(state, flow=flow.name, step=0, slots=slots)
            return self._walk(turn, started, 0, understanding)
        if intent.item is not None:
            return self._answer_about(turn, state, intent, mention, understanding)
        return self._reply(turn, state, _templates(intent.answers[0].text), understanding)

    async def _best_item(self, turn: _Turn, source: str) -> Item | None:
        query = self._understander.prepare(turn.heard, turn.state, turn.today)
        vectors = await self._embed(query.texts, turn.purpose)
        for match in self._knowledge.search(query.texts[0], vectors[0], turn.today):
            item = self._knowledge.item(match.key, turn.today)
            if item is not None and item.source == source:
                return item
        return None

    async def _answer_item(
        self, turn: _Turn, state: DialogueState, item: Item | None, understanding: Understanding, style: ReplyStyle
    ) -> Reply:
        if item is None:
            return self._decline(turn, Decision.DECLINE, None)
        citation = Citation(item_id=item.id, version=item.version)
        text, source = item.answer, SpeechSource.PASSAGE
        if style is ReplyStyle.GENERATE and self._generator is not None:
            budget_s = min(self.agent.policy.generation_budget_s, turn.purpose.budget_s)
            generated = await worded(self._generator, turn.heard, item.answer, turn.purpose, budget_s)
            if generated is not None:
                text, source = generated, SpeechSource.GENERATED
        speech = Speech(text=text, source=source, citation=citation)
        return self._reply(turn, replace(state, topic_item_id=item.id), (speech,), understanding)

    def _answer_about(
        self, turn: _Turn, state: DialogueState, intent: Intent, mention: Mention | None, understanding: Understanding
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
        return self._reply(turn, replace(state, topic_item_id=item.id), (speech,), known)

    def _ask_item(
        self, turn: _Turn, state: DialogueState, intent: Intent, named: Sequence[Item], understanding: Understanding
    ) -> Reply:
        listed = [item.title for item in named[:_LISTED_ITEMS]]
        text = self.agent.phrases.which_item
        expected = Expectation()
        if listed:
            options = f"the {', the '.join(listed[:-1])}, or the {listed[-1]}"
            text = f"{text} {options[0].upper()}{options[1:]}?"
            expected = Expectation(kind=AnswerKind.CHOICE, choices=tuple(listed))
        choices = tuple(item.id for item in named[:_LISTED_ITEMS])
        pending = Pending(kind=PendingKind.ITEM, intent=intent.name, choices=choices)
        asked = replace(state, pending=pending, expectation=expected)
        return self._reply(turn, asked, _templates(text), understanding)

    # -- flows

    def _first_slots(self, flow: Flow, turn: _Turn, mention: Mention | None) -> dict[str, str]:
        """Return the slots the opening words fill already: digits of the exact count and named items."""
        filled: dict[str, str] = {}
        for slot in flow.slots:
            if slot.kind is SlotKind.DIGITS and slot.digits is not None:
                found = fill(slot, turn.heard)
                if found is not None and found.is_whole:
                    filled[slot.name] = found.value
            if slot.kind is SlotKind.ITEM and mention is not None and len(mention.items) == 1:
                filled[slot.name] = mention.items[0].title
        return filled

    async def _in_flow(self, turn: _Turn, flow: Flow) -> Reply:
        state = turn.state
        command = command_in(turn.heard)
        act = flow.steps[state.step].act
        if command is Command.CANCEL:
            return self._reply(turn, _left(state), _templates(flow.cancelled), _certain(command))
        if command is Command.START_OVER:
            return self._walk(turn, replace(state, slots={}, misunderstandings=0), 0, _certain(command))
        if command is Command.GO_BACK:
            slot = flows.previous_question(flow, state.step, state.slots)
            if slot is not None:
                earlier = replace(state, slots=flows.without(state.slots, (slot,)), misunderstandings=0)
                return self._walk(turn, earlier, flows.first_question(flow, (slot,)), _certain(command))
        match act:
            case Ask():
                return await self._asked(turn, flow, act)
            case Confirm():
                return await self._confirmed(turn, flow, act)
            case _:
                # A tool is running; what was said meanwhile waits for its answer.
                return self._reply(turn, state, _templates(self.agent.phrases.filler[0]), _certain("waiting"))

    async def _asked(self, turn: _Turn, flow: Flow, ask: Ask) -> Reply:
        slot = flow.slot(ask.slot)
        named = (
            self._knowledge.mention(turn.heard, slot.source, turn.today)
            if slot.kind is SlotKind.ITEM and slot.source is not None
            else None
        )
        if slot.kind is SlotKind.TEXT or (slot.kind is SlotKind.ITEM and not _is_only_name(turn.heard, named)):
            aside = await self._aside(turn, flow, least=0.8 if slot.kind is SlotKind.TEXT else 0.6)
            if aside is not None:
                return aside
        earlier = turn.state.slots.get(flows.partial_name(slot.name), "")
        filled = fill(slot, turn.heard, earlier)
        if named is not None:
            filled = Filled(value=named.items[0].title)
        if filled is None:
            return await self._missed(turn, flow, ask.reprompts or (ask.prompt,))
        understanding = _certain(f"slot:{slot.name}")
        if not filled.is_whole:
            slots = {**turn.state.slots, flows.partial_name(slot.name): filled.value}
            partial = replace(turn.state, slots=slots)
            text = self.agent.phrases.more_digits
            return self._reply(turn, partial, _templates(text), understanding, is_complete=False)
        slots = {**flows.without(turn.state.slots, (slot.name,)), slot.name: filled.value}
        state = replace(turn.state, slots=slots, misunderstandings=0)
        is_open = slot.kind is SlotKind.TEXT and hearing.is_fragment(turn.heard)
        return self._walk(turn, state, turn.state.step, understanding, is_complete=not is_open)

    async def _confirmed(self, turn: _Turn, flow: Flow, confirm: Confirm) -> Reply:
        answer = yes_or_no(turn.heard)
        if answer is True:
            state = replace(turn.state, misunderstandings=0)
            return self._walk(turn, state, turn.state.step + 1, _certain("yes"))
        retried = flow.slot(confirm.retry[0])
        corrected = fill(retried, turn.heard) if retried.kind is not SlotKind.TEXT else None
        start = flows.first_question(flow, confirm.retry)
        slots = flows.without(turn.state.slots, confirm.retry)
        if corrected is not None and corrected.is_whole and retried.kind is SlotKind.DIGITS:
            state = replace(turn.state, slots={**slots, retried.name: corrected.value}, misunderstandings=0)
            return self._walk(turn, state, start, _certain(f"slot:{retried.name}"))
        if answer is False:
            return self._walk(turn, replace(turn.state, slots=slots), start, _certain("no"))
        return await self._missed(turn, flow, (render(confirm.prompt, turn.state.slots),))

    async def _aside(self, turn: _Turn, flow: Flow, *, least: float) -> Reply | None:
        """Answer a question asked in the middle of a flow and return to it; None if it is not one."""
        query, ranked = await self._understand(turn)
        best = ranked[0] if ranked else None
        if best is None or best.confidence < max(least, self.agent.policy.bands.answer):
            return None
        if best.intent is not None and best.intent.flow == flow.name:
            return None
        understanding = Understanding(intent=best.name, confidence=best.confidence, slots=_item_slot(best.item))
        is_other_flow = best.intent is not None and best.intent.flow is not None
        outside = replace(turn, state=replace(turn.state, flow=None, slots={}) if is_other_flow else turn.state)
        reply = await self._act(outside, best.intent, best.item, query.mention, understanding)
        if is_other_flow or reply.action is not None:
            return reply
        back = render(self.agent.phrases.back_to_flow, {"title": flow.title})
        speeches = (*reply.speeches, *_templates(back, *self._open_question(turn.state)))
        state = replace(turn.state, topic_item_id=reply.state.topic_item_id, misunderstandings=0)
        return self._reply(turn, state, speeches, understanding)

    async def _missed(self, turn: _Turn, flow: Flow, reprompts: Sequence[str]) -> Reply:
        """The answer did not fit the question: perhaps it was a question of the caller's own."""
        aside = await self._aside(turn, flow, least=0.0)
        if aside is not None:
            return aside
        count = turn.state.misunderstandings + 1
        understanding = _certain("slot_missed", 0.0)
        if count > self.agent.policy.misunderstandings:
            return self._escalate(turn, turn.state, "misunderstood", understanding, is_complete=False)
        text = render(reprompts[min(count, len(reprompts)) - 1], turn.state.slots)
        state = replace(turn.state, misunderstandings=count)
        return self._reply(turn, state, _templates(text), understanding, is_complete=False)

    def _walk(
        self,
        turn: _Turn,
        state: DialogueState,
        start: int,
        understanding: Understanding,
        *,
        is_complete: bool = True,
        source: SpeechSource = SpeechSource.TEMPLATE,
    ) -> Reply:
        """Go on with the flow the state is in."""
        flow = self.agent.flows[state.flow or ""]
        position = flows.walk(flow, start, state.slots)
        speeches = tuple(Speech(text=text, source=source) for text in position.texts)
        if position.hand_over is not None:
            reason = position.hand_over.reason
            return self._escalate(turn, replace(state, slots=position.slots), reason, understanding, *position.texts)
        if position.step is None:
            action = EndCall(reason="flow_finished") if position.hang_up else None
            return self._reply(turn, _left(state), speeches, understanding, is_complete=is_complete, action=action)
        waiting = replace(
            state,
            flow=flow.name,
            step=position.step,
            slots=position.slots,
            expectation=position.expectation,
            pending=None,
        )
        return self._reply(turn, waiting, speeches, understanding, is_complete=is_complete, action=position.tool)

    def _open_question(self, state: DialogueState) -> tuple[str, ...]:
        """Return the question that still waits for an answer, if there is one."""
        if state.flow is not None:
            act = self.agent.flows[state.flow].steps[state.step].act
            if isinstance(act, Ask | Confirm):
                return (render(act.prompt, state.slots),)
        if state.pending is not None and state.pending.kind is PendingKind.CONSENT and self.agent.consent is not None:
            return (self.agent.consent.prompt,)
        return ()

    # -- replies

    def _escalate(
        self,
        turn: _Turn,
        state: DialogueState,
        reason: str,
        understanding: Understanding,
        *texts: str,
        is_complete: bool = True,
    ) -> Reply:
        action = hand_over(self.agent, state, reason, turn.heard)
        spoken = texts or (self.agent.phrases.escalating,)
        left = _left(state)
        return self._reply(turn, left, _templates(*spoken), understanding, is_complete=is_complete, action=action)

    def _reply(
        self,
        turn: _Turn,
        state: DialogueState,
        speeches: tuple[Speech, ...],
        understanding: Understanding,
        *,
        is_complete: bool = True,
        action: Action | None = None,
    ) -> Reply:
        said = " ".join(speech.text for speech in speeches)
        exchange = Exchange(caller=turn.heard, agent=said, intent=understanding.intent)
        after = replace(state, history=(*turn.state.history, exchange), last_speech=said or state.last_speech)
        whole = is_complete and bool(speeches) and not _waits_for_more(turn, understanding)
        return Reply(state=after, understanding=understanding, speeches=speeches, is_complete=whole, action=action)

    def _today(self) -> date:
        return self._now().date()


async def open_understander(
    agent: Agent, embedder: Embedder, *, cache: Path | None
) -> tuple[KnowledgeBase, Understander]:
    """Read the agent's knowledge and embed all that utterances are compared with."""
    items = [item for source in agent.sources for item in load_items(source.path, source.name)]
    mentions = {source.name: source.mention for source in agent.sources if source.mention is not None}
    knowledge = await open_knowledge(items, mentions, embedder, tenant=agent.tenant, cache=cache)
    examples = [Example(key=intent.name, text=text) for intent in agent.intents for text in intent.examples]
    vectors = await embed_texts([example.text for example in examples], embedder, tenant=agent.tenant, cache=cache)
    return knowledge, Understander(agent, knowledge, ExampleIndex(examples, vectors), load_calibration())


def _templates(*texts: str) -> tuple[Speech, ...]:
    return tuple(Speech(text=text, source=SpeechSource.TEMPLATE) for text in texts)


def _certain(intent: str, confidence: float = 1.0) -> Understanding:
    return Understanding(intent=intent, confidence=confidence)


def _about_named(ranked: Sequence[Hypothesis], mention: Mention | None) -> Hypothesis | None:
    """Return the likeliest question about the item that was surely named, if it is not far-fetched."""
    if mention is None or len(mention.items) != 1:
        return None
    likely = (one for one in ranked if one.intent is not None and one.intent.item == mention.items[0].source)
    best = next(likely, None)
    return best if best is not None and best.confidence >= _LEAST_ABOUT_NAMED else None


def _question_about(best: Hypothesis, named: str | None) -> str:
    """Return what a hypothesis would be asked back as: "the price of the NovaBook"."""
    if best.intent is None:
        return best.item.title if best.item is not None else ""
    return render(best.intent.title, {"item": f"the {named}" if named is not None else "it"})


def _item_slot(item: Item | None) -> dict[str, str]:
    return {"item": item.id} if item is not None else {}


def _left(state: DialogueState) -> DialogueState:
    """Return the state outside any flow."""
    return replace(state, flow=None, step=0, slots={}, pending=None, expectation=Expectation(), misunderstandings=0)


def _is_only_name(heard: str, named: Mention | None) -> bool:
    """Whether little is said beside the name, so that it answers "which one?"."""
    return named is not None and len(words(heard)) <= _LONGEST_CHOICE_WORDS


def _distinct_words(item: Item, others: Sequence[Item]) -> set[str]:
    """Return the words of the title that no other offered item has."""
    shared = {word for other in others if other.id != item.id for word in words(other.title)}
    return set(words(item.title)) - shared


def _waits_for_more(turn: _Turn, understanding: Understanding) -> bool:
    """Whether the words break off although they were understood: "I want to book a repair for my"."""
    is_answer = understanding.intent.startswith("slot:") or understanding.intent in {"yes", "no", "consent_given"}
    return bool(turn.heard) and not is_answer and hearing.is_fragment(turn.heard)
