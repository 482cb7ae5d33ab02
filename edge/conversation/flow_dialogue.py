"""The half of a conversation that walks through a flow: answers to its questions, corrections, asides and ways out.

Knows nothing of how open questions are understood; `Questions` does that for an aside.
"""

from collections.abc import Sequence
from dataclasses import replace
from typing import Protocol

from edge.conversation import flows, hearing
from edge.conversation.agent import Agent, Ask, Confirm, Flow, Intent, SlotKind, UseTool
from edge.conversation.commands import Command, command_in
from edge.conversation.dialogue import (
    DialogueState,
    EndCall,
    Pending,
    PendingKind,
    Reply,
    Speech,
    SpeechSource,
    ToolResult,
    Understanding,
)
from edge.conversation.replies import YES_NO, Replies, Turn, certain, item_slot, left, templates
from edge.conversation.slots import Filled, fill, likely_yes_or_no
from edge.conversation.template import TemplateError, render
from edge.conversation.understanding import Hypothesis, Query
from edge.knowledge.base import KnowledgeBase
from edge.knowledge.items import Item
from edge.knowledge.mentions import Mention
from edge.knowledge.words import words

_LONGEST_NAME_ANSWER_WORDS = 6


class Questions(Protocol):
    """Understands and answers what a caller asks in the middle of a flow."""

    async def understand(self, turn: Turn) -> tuple[Query, tuple[Hypothesis, ...]]:
        """Return the query made of the words and what they may mean, best first."""

    async def act(
        self,
        turn: Turn,
        intent: Intent | None,
        item: Item | None,
        mention: Mention | None,
        understanding: Understanding,
    ) -> Reply:
        """Do what an understood intent asks for."""


class FlowDialogue:
    """Leads callers through the flows of one agent; holds no state of a call."""

    def __init__(self, agent: Agent, knowledge: KnowledgeBase) -> None:
        self._agent = agent
        self._knowledge = knowledge
        self._replies = Replies(agent)

    def start(
        self, turn: Turn, state: DialogueState, flow: Flow, mention: Mention | None, understanding: Understanding
    ) -> Reply:
        """Begin a flow with what the opening words say for it already."""
        slots = self._first_slots(flow, turn, mention)
        started = replace(state, flow=flow.name, step=0, slots=slots)
        return self.walk(turn, started, 0, understanding)

    async def respond(self, turn: Turn, flow: Flow, questions: Questions) -> Reply:
        """Return the reply to words heard in the flow."""
        state = turn.state
        command = command_in(turn.heard)
        act = flow.steps[state.step].act
        if command is Command.CANCEL:
            return self._replies.reply(turn, left(state), templates(flow.cancelled), certain(command))
        if command is Command.START_OVER:
            return self.walk(turn, replace(state, slots={}, misunderstandings=0), 0, certain(command))
        if command is Command.GO_BACK:
            slot = flows.previous_question(flow, state.step, state.slots)
            if slot is not None:
                earlier = replace(state, slots=flows.without(state.slots, (slot,)), misunderstandings=0)
                return self.walk(turn, earlier, flows.first_question(flow, (slot,)), certain(command))
        match act:
            case Ask():
                return await self._asked(turn, flow, act, questions)
            case Confirm():
                return await self._confirmed(turn, flow, act, questions)
            case _:
                # A tool is running; what was said meanwhile waits for its answer.
                return self._replies.reply(turn, state, templates(self._agent.phrases.filler[0]), certain("waiting"))

    def after_tool(self, turn: Turn, result: ToolResult) -> Reply:
        """Return what follows a tool: the flow goes on with its fields, or the failure is said honestly."""
        state = turn.state
        flow = self._agent.flows.get(state.flow or "")
        act = flow.steps[state.step].act if flow is not None and state.step < len(flow.steps) else None
        understanding = certain(f"tool:{result.tool}")
        if flow is None or not isinstance(act, UseTool):
            return self._replies.reply(turn, left(state), templates(self._agent.phrases.anything_else), understanding)
        if result.error is None:
            merged = replace(state, slots={**state.slots, **result.fields})
            try:
                return self.walk(turn, merged, state.step + 1, understanding, source=SpeechSource.TOOL)
            except TemplateError:
                # The service answered without a field the flow speaks: as good as no answer.
                pass
        if act.hand_over:
            return self._replies.escalate(turn, state, "tool_failed", understanding, act.failed)
        return self._replies.reply(
            turn,
            replace(left(state), pending=Pending(kind=PendingKind.HUMAN), expectation=YES_NO),
            templates(act.failed),
            understanding,
        )

    def walk(
        self,
        turn: Turn,
        state: DialogueState,
        start: int,
        understanding: Understanding,
        *,
        is_complete: bool = True,
        source: SpeechSource = SpeechSource.TEMPLATE,
    ) -> Reply:
        """Go on with the flow the state is in."""
        flow = self._agent.flows[state.flow or ""]
        position = flows.walk(flow, start, state.slots)
        speeches = tuple(Speech(text=text, source=source) for text in position.texts)
        if position.hand_over is not None:
            reason = position.hand_over.reason
            return self._replies.escalate(
                turn, replace(state, slots=position.slots), reason, understanding, *position.texts
            )
        if position.step is None:
            action = EndCall(reason="flow_finished") if position.hang_up else None
            return self._replies.reply(
                turn, left(state), speeches, understanding, is_complete=is_complete, action=action
            )
        waiting = replace(
            state,
            flow=flow.name,
            step=position.step,
            slots=position.slots,
            expectation=position.expectation,
            pending=None,
        )
        return self._replies.reply(
            turn, waiting, speeches, understanding, is_complete=is_complete, action=position.tool
        )

    def open_question(self, state: DialogueState) -> tuple[str, ...]:
        """Return the question of the flow that waits for an answer, if there is one."""
        if state.flow is not None:
            act = self._agent.flows[state.flow].steps[state.step].act
            if isinstance(act, Ask | Confirm):
                return (render(act.prompt, state.slots),)
        return ()

    def outside_tool(self, state: DialogueState) -> DialogueState:
        """Return the state without a flow that waits for a tool: what a tool does, another call must not do again."""
        if state.flow is not None and isinstance(self._agent.flows[state.flow].steps[state.step].act, UseTool):
            return left(state)
        return state

    def _first_slots(self, flow: Flow, turn: Turn, mention: Mention | None) -> dict[str, str]:
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

    async def _asked(self, turn: Turn, flow: Flow, ask: Ask, questions: Questions) -> Reply:
        slot = flow.slot(ask.slot)
        named = (
            self._knowledge.mention(turn.heard, slot.source, turn.today)
            if slot.kind is SlotKind.ITEM and slot.source is not None
            else None
        )
        if slot.kind is SlotKind.TEXT or (slot.kind is SlotKind.ITEM and not _is_only_name(turn.heard, named)):
            aside = await self._aside(turn, flow, questions, least=0.8 if slot.kind is SlotKind.TEXT else 0.6)
            if aside is not None:
                return aside
        earlier = turn.state.slots.get(flows.partial_name(slot.name), "")
        filled = fill(slot, turn.heard, earlier)
        if named is not None:
            filled = Filled(value=named.items[0].title)
        if filled is None and slot.kind is SlotKind.CHOICE:
            filled_ahead = self._given_ahead(turn, flow)
            if filled_ahead is not None:
                state = replace(turn.state, slots={**turn.state.slots, **filled_ahead})
                return self.walk(turn, state, turn.state.step, certain("slot:ahead"))
        if filled is None:
            return await self._missed(turn, flow, ask.reprompts or (ask.prompt,), questions)
        understanding = certain(f"slot:{slot.name}")
        if not filled.is_whole:
            slots = {**turn.state.slots, flows.partial_name(slot.name): filled.value}
            partial = replace(turn.state, slots=slots)
            text = self._agent.phrases.more_digits
            return self._replies.reply(turn, partial, templates(text), understanding, is_complete=False)
        slots = {**flows.without(turn.state.slots, (slot.name,)), slot.name: filled.value}
        state = replace(turn.state, slots=slots, misunderstandings=0)
        is_open = slot.kind is SlotKind.TEXT and hearing.is_fragment(turn.heard)
        return self.walk(turn, state, turn.state.step, understanding, is_complete=not is_open)

    def _given_ahead(self, turn: Turn, flow: Flow) -> dict[str, str] | None:
        """Return the number of a later question, if that is what was said instead of an answer to this one."""
        for slot in flow.slots:
            if slot.kind is SlotKind.DIGITS and slot.digits is not None and not turn.state.slots.get(slot.name):
                found = fill(slot, turn.heard)
                if found is not None and found.is_whole:
                    return {slot.name: found.value}
        return None

    async def _confirmed(self, turn: Turn, flow: Flow, confirm: Confirm, questions: Questions) -> Reply:
        answer = likely_yes_or_no(turn.heard)
        if answer is True:
            state = replace(turn.state, misunderstandings=0)
            return self.walk(turn, state, turn.state.step + 1, certain("yes"))
        retried = flow.slot(confirm.retry[0])
        corrected = fill(retried, turn.heard) if retried.kind is not SlotKind.TEXT else None
        start = flows.first_question(flow, confirm.retry)
        slots = flows.without(turn.state.slots, confirm.retry)
        if corrected is not None and corrected.is_whole and retried.kind is SlotKind.DIGITS:
            state = replace(turn.state, slots={**slots, retried.name: corrected.value}, misunderstandings=0)
            return self.walk(turn, state, start, certain(f"slot:{retried.name}"))
        if answer is False:
            return self.walk(turn, replace(turn.state, slots=slots), start, certain("no"))
        return await self._missed(turn, flow, (render(confirm.prompt, turn.state.slots),), questions)

    async def _aside(self, turn: Turn, flow: Flow, questions: Questions, *, least: float) -> Reply | None:
        """Answer a question asked in the middle of a flow and return to it; None if it is not one."""
        query, ranked = await questions.understand(turn)
        best = ranked[0] if ranked else None
        if best is None or best.confidence < max(least, self._agent.policy.bands.answer):
            return None
        if best.intent is not None and best.intent.flow == flow.name:
            return None
        understanding = Understanding(intent=best.name, confidence=best.confidence, slots=item_slot(best.item))
        is_other_flow = best.intent is not None and best.intent.flow is not None
        outside = replace(turn, state=replace(turn.state, flow=None, slots={}) if is_other_flow else turn.state)
        reply = await questions.act(outside, best.intent, best.item, query.mention, understanding)
        if is_other_flow or reply.action is not None:
            return reply
        back = render(self._agent.phrases.back_to_flow, {"title": flow.title})
        speeches = (*reply.speeches, *templates(back, *self.open_question(turn.state)))
        state = replace(turn.state, topic_item_id=reply.state.topic_item_id, misunderstandings=0)
        return self._replies.reply(turn, state, speeches, understanding)

    async def _missed(self, turn: Turn, flow: Flow, reprompts: Sequence[str], questions: Questions) -> Reply:
        """The answer did not fit the question: perhaps it was a question of the caller's own."""
        aside = await self._aside(turn, flow, questions, least=0.0)
        if aside is not None:
            return aside
        count = turn.state.misunderstandings + 1
        understanding = certain("slot_missed", 0.0)
        if count > self._agent.policy.misunderstandings:
            return self._replies.escalate(turn, turn.state, "misunderstood", understanding, is_complete=False)
        text = render(reprompts[min(count, len(reprompts)) - 1], turn.state.slots)
        state = replace(turn.state, misunderstandings=count)
        return self._replies.reply(turn, state, templates(text), understanding, is_complete=False)


def _is_only_name(heard: str, named: Mention | None) -> bool:
    """Whether little is said beside the name, so that it answers "which one?"."""
    return named is not None and len(words(heard)) <= _LONGEST_NAME_ANSWER_WORDS
