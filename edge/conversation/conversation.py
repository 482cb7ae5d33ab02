"""One agent's side of any number of calls: from what was heard to what is said and done next.

`AgentConversation` holds only what is fixed for an agent; everything about a call is in its `DialogueState`. Nothing
here has side effects, so replies can be prepared speculatively and dropped. Actions are carried out by the call.
"""

from collections.abc import Callable
from dataclasses import replace
from datetime import date, datetime
from pathlib import Path
from typing import Self
from zoneinfo import ZoneInfo

from edge.call.ports import Embedder, Generator, Purpose, TransferOutcome
from edge.conversation import hearing
from edge.conversation.agent import Agent
from edge.conversation.commands import Command, command_in
from edge.conversation.dialogue import (
    AnswerKind,
    DialogueState,
    EndCall,
    Expectation,
    Pending,
    PendingKind,
    Reply,
    Speech,
    ToolResult,
)
from edge.conversation.flow_dialogue import FlowDialogue
from edge.conversation.policy import sensitive_topic
from edge.conversation.prepared import fixed_texts
from edge.conversation.questions import OpenQuestions
from edge.conversation.replies import NOBODY, YES_NO, Replies, Turn, certain, left, templates
from edge.conversation.slots import yes_or_no
from edge.conversation.template import TemplateError, render
from edge.conversation.understanding import Understander, load_calibration
from edge.knowledge.base import KnowledgeBase, open_knowledge
from edge.knowledge.examples import Example, ExampleIndex
from edge.knowledge.items import load_items
from edge.knowledge.shelf import KnowledgeShelf
from edge.knowledge.vectors import embed_texts
from edge.knowledge.words import words


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
        self._replies = Replies(agent)
        self._flows = FlowDialogue(agent, knowledge)
        self._questions = OpenQuestions(
            agent,
            knowledge,
            understander,
            embedder,
            flows=self._flows,
            generator=generator,
        )
        zone = ZoneInfo(agent.timezone)
        self._now = now if now is not None else lambda: datetime.now(zone)

    @classmethod
    async def load(
        cls,
        agent: Agent,
        embedder: Embedder,
        *,
        cache: Path | None,
        shelf: KnowledgeShelf | None = None,
        generator: Generator | None = None,
        now: Callable[[], datetime] | None = None,
    ) -> Self:
        """Read the agent's knowledge and compute every vector it needs; `cache` keeps them between starts.

        With a shelf of replicas, knowledge comes from the tenant's there and follows it; from the files beside the
        documents until there is one. Raises KnowledgeError and what the embedder raises.
        """
        knowledge, understander = await open_understander(agent, embedder, cache=cache, shelf=shelf)
        return cls(agent, knowledge, understander, embedder, generator=generator, now=now)

    @property
    def knowledge_version(self) -> int:
        """The version of the tenant's knowledge that answers come from, 0 for files."""
        return self._knowledge.version

    async def watch_knowledge(self) -> None:
        """Follow the tenant's replica also between calls. Runs until cancelled; returns at once for files."""
        await self._knowledge.watch()

    def opening(self) -> Reply:
        """Return the greeting, with the question for consent if the agent needs one."""
        consent = self.agent.consent
        texts = (self.agent.greeting,) if consent is None else (self.agent.greeting, consent.prompt)
        pending = None if consent is None else Pending(kind=PendingKind.CONSENT)
        state = DialogueState(
            pending=pending,
            has_consent=consent is None,
            expectation=Expectation() if consent is None else YES_NO,
        )
        turn = Turn(state=state, heard="", purpose=NOBODY, today=self._today())
        return self._replies.reply(turn, state, templates(*texts), certain("opening"))

    async def respond(self, state: DialogueState, heard: str, purpose: Purpose) -> Reply:
        """Return the reply to what was heard. Raises what the embedder raises."""
        turn = Turn(state=state, heard=hearing.cleaned(heard), purpose=purpose, today=self._today())
        if not turn.heard:
            return Reply(state=state, understanding=certain("nothing", 0.0), speeches=(), is_complete=False)
        reply = self._anywhere(turn)
        if reply is None and state.flow is not None:
            reply = await self._flows.respond(turn, self.agent.flows[state.flow], self._questions)
        if reply is None and state.pending is not None:
            reply = await self._questions.answered(turn, state.pending)
        return reply if reply is not None else await self._questions.respond(turn)

    async def digits(self, state: DialogueState, digits: str, purpose: Purpose) -> Reply:
        """Return the reply to keys pressed: an answer if digits were asked for, 1 and 2 for yes and no, 0 for a
        human."""
        if state.expectation.kind is AnswerKind.YES_NO and digits.strip("#") in {"1", "2"}:
            return await self.respond(state, "yes" if digits[0] == "1" else "no", purpose)
        if state.flow is None and digits.strip("#") == "0":
            turn = Turn(state=state, heard=digits, purpose=purpose, today=self._today())
            return self._replies.escalate(turn, state, "asked_for_human", certain("human"))
        if digits.strip("#*"):
            return await self.respond(state, " ".join(digits.strip("#*")), purpose)
        return await self.respond(state, "go back" if state.flow is not None else "repeat that", purpose)

    async def after_tool(self, state: DialogueState, result: ToolResult) -> Reply:
        """Return what follows a tool: the flow goes on with its fields, or the failure is said honestly."""
        turn = Turn(state=state, heard="", purpose=NOBODY, today=self._today())
        return self._flows.after_tool(turn, result)

    def after_transfer_failed(self, state: DialogueState, outcome: TransferOutcome) -> Reply:
        """Return what to say when no human could be reached; the caller is still with us."""
        texts = self.agent.phrases.transfer_failed
        turn = Turn(state=state, heard="", purpose=NOBODY, today=self._today())
        text = texts.get(outcome.value, texts["unreachable"])
        return self._replies.reply(turn, left(state), templates(text), certain("transfer_failed"))

    def no_input(self, state: DialogueState, count: int) -> Reply:
        """Return what to say to a caller silent for the `count`-th time in a row (from 1); after the last text the
        call ends."""
        texts = self.agent.phrases.no_input
        turn = Turn(state=state, heard="", purpose=NOBODY, today=self._today())
        if count > len(texts):
            end = EndCall(reason="silence")
            speeches = templates(self.agent.phrases.silence_goodbye)
            return self._replies.reply(turn, state, speeches, certain("no_input"), action=end)
        question = self._open_question(state)
        speeches = templates(texts[count - 1], *question)
        return self._replies.reply(turn, state, speeches, certain("no_input"))

    def resume(self, state: DialogueState) -> Reply:
        """Return what to say when the call goes on after an interruption on our side."""
        turn = Turn(state=state, heard="", purpose=NOBODY, today=self._today())
        again = self._open_question(state) or ((state.last_speech,) if state.last_speech else ())
        return self._replies.reply(turn, state, templates(self.agent.phrases.resume, *again), certain("resume"))

    def welcome_back(self, state: DialogueState, unheard: tuple[Speech, ...] = ()) -> Reply:
        """Return what a caller hears first who was cut off in `state` (`restored` before) and rings back; `unheard` is
        the reply that was cut off.

        Nothing of the old call is said before a consent that must be given anew.
        """
        turn, texts = Turn(state=state, heard="", purpose=NOBODY, today=self._today()), self.agent.phrases
        consent = self.agent.consent
        if consent is not None and not (state.has_consent and consent.is_carried_over):
            asked = replace(
                self._flows.outside_tool(state),
                pending=Pending(kind=PendingKind.CONSENT),
                has_consent=False,
                expectation=YES_NO,
                misunderstandings=0,
            )
            return self._replies.reply(turn, asked, templates(texts.ring_back, consent.prompt), certain("ring_back"))
        again = self._open_question(state) or ((state.last_speech,) if state.last_speech else ())
        speeches = (*templates(texts.ring_back, *self._topic(state)), *(unheard or templates(*again)))
        return self._replies.reply(turn, state, speeches, certain("ring_back"))

    def restored(self, state: DialogueState) -> DialogueState:
        """Return the state of a call that another worker had, outside any flow that these documents do not have."""
        if state.flow is None:
            return state
        flow = self.agent.flows.get(state.flow)
        if flow is None or state.step >= len(flow.steps):
            return left(state)
        try:
            self._flows.open_question(state)
        except TemplateError:
            return left(state)
        return state

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

    def _anywhere(self, turn: Turn) -> Reply | None:
        """Answer what comes before everything else: sensitive topics, "say that again", consent, a human."""
        state = turn.state
        if (topic := sensitive_topic(self.agent.policy.sensitive, turn.heard)) is not None:
            return self._replies.escalate(turn, state, topic, certain("sensitive"))
        if command_in(turn.heard) is Command.REPEAT and state.last_speech:
            return self._replies.reply(turn, state, templates(state.last_speech), certain(Command.REPEAT))
        if state.pending is not None and state.pending.kind is PendingKind.CONSENT:
            return self._consent(turn, state.pending)
        if command_in(turn.heard) is Command.HUMAN:
            return self._replies.escalate(turn, state, "asked_for_human", certain(Command.HUMAN))
        return None

    def _consent(self, turn: Turn, pending: Pending) -> Reply:
        consent = self.agent.consent
        answer = yes_or_no(turn.heard)
        if consent is None or (answer and pending.is_heard):
            state = replace(turn.state, pending=None, has_consent=True, expectation=Expectation(), misunderstandings=0)
            accepted = () if consent is None else (consent.accepted,)
            if turn.state.flow is not None or turn.state.topic_item_id is not None:
                return self._gone_on(turn, state, accepted)
            return self._replies.reply(turn, state, templates(*accepted), certain("consent_given"))
        if answer is False:
            return self._replies.escalate(
                turn, turn.state, "consent_declined", certain("consent_declined"), consent.declined
            )
        if turn.state.misunderstandings >= self.agent.policy.misunderstandings:
            return self._replies.escalate(turn, turn.state, "consent_unclear", certain("consent_unclear", 0.0))
        asked = replace(
            turn.state,
            pending=Pending(kind=PendingKind.CONSENT),
            expectation=YES_NO,
            misunderstandings=turn.state.misunderstandings + 1,
        )
        text = consent.again if pending.is_heard else consent.prompt
        return self._replies.reply(turn, asked, templates(text), certain("consent_unclear", 0.0), is_complete=False)

    def _gone_on(self, turn: Turn, state: DialogueState, accepted: tuple[str, ...]) -> Reply:
        """Return the reply that goes on with what a caller was cut off from, who has just given consent anew."""
        first = templates(*accepted, *self._topic(state))
        if state.flow is None:
            return self._replies.reply(turn, state, first, certain("consent_given"))
        reply = self._flows.walk(turn, state, state.step, certain("consent_given"))
        return replace(reply, speeches=(*first, *reply.speeches))

    def _topic(self, state: DialogueState) -> tuple[str, ...]:
        """Return what the call is about, as it is said to a caller who was cut off."""
        texts = self.agent.phrases
        if state.flow is not None:
            return (render(texts.back_to_flow, {"title": self.agent.flows[state.flow].title}),)
        item = None if state.topic_item_id is None else self._knowledge.item(state.topic_item_id, self._today())
        return () if item is None else (render(texts.ring_back_topic, {"title": item.title}),)

    def _holds_prompt(self, heard_text: str) -> bool:
        consent = self.agent.consent
        return consent is not None and " ".join(words(consent.prompt)) in " ".join(words(heard_text))

    def _open_question(self, state: DialogueState) -> tuple[str, ...]:
        """Return the question that still waits for an answer, if there is one."""
        if state.flow is not None:
            return self._flows.open_question(state)
        if state.pending is not None and state.pending.kind is PendingKind.CONSENT and self.agent.consent is not None:
            return (self.agent.consent.prompt,)
        return ()

    def _today(self) -> date:
        return self._now().date()


async def open_understander(
    agent: Agent, embedder: Embedder, *, cache: Path | None, shelf: KnowledgeShelf | None = None
) -> tuple[KnowledgeBase, Understander]:
    """Open the agent's knowledge and embed all that utterances are compared with."""
    mentions = {source.name: source.mention for source in agent.sources if source.mention is not None}
    sources = [source.name for source in agent.sources]
    knowledge = await shelf.knowledge(agent.tenant, sources, mentions, embedder) if shelf is not None else None
    if knowledge is None:
        files = [(source.path, source.name) for source in agent.sources if source.path is not None]
        items = [item for file, name in files for item in load_items(file, name)]
        knowledge = await open_knowledge(items, mentions, embedder, tenant=agent.tenant, cache=cache)
        if shelf is not None:
            knowledge.follow(shelf.path(agent.tenant), sources, mentions)
    examples = [Example(key=intent.name, text=text) for intent in agent.intents for text in intent.examples]
    vectors = await embed_texts([example.text for example in examples], embedder, tenant=agent.tenant, cache=cache)
    return knowledge, Understander(agent, knowledge, ExampleIndex(examples, vectors), load_calibration())
