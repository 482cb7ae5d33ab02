"""Runs the scenarios of bench/scenarios against a conversation, text in and text out."""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path

import yaml

from edge.call.ports import Embedder, Priority, Purpose
from edge.conversation.conversation import AgentConversation
from edge.conversation.dialogue import EndCall, Escalate, Reply, RunTool, ToolResult
from edge.conversation.documents import load_agents
from edge.conversation.facts import Fact, facts_in, is_stated

ROOT = Path(__file__).parents[3]
SCENARIOS = ROOT / "bench/scenarios"
TENANTS = ROOT / "edge/tenants"
LIVE = Purpose(tenant="test", call_id="test", priority=Priority.LIVE, budget_s=1.0)


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """How a scenario went: what was wrong with it, and facts said that stand nowhere."""

    scenario: str
    failures: tuple[str, ...]
    wrong_facts: tuple[str, ...]
    transcript: tuple[str, ...] = field(default_factory=tuple)


def read(tenant: str) -> tuple[datetime, list[dict[str, object]]]:
    """Return the wall clock and the scenarios of a tenant."""
    document = yaml.safe_load((SCENARIOS / f"{tenant}.yaml").read_text())
    scenarios: list[dict[str, object]] = document["scenarios"]
    return datetime.fromisoformat(str(document["now"])), scenarios


async def load(tenant: str, embedder: Embedder, now: datetime, cache: Path | None) -> AgentConversation:
    agent = load_agents(TENANTS / tenant)[0]
    return await AgentConversation.load(agent, embedder, cache=cache, now=lambda: now)


async def run(
    conversation: AgentConversation,
    scenario: Mapping[str, object],
    stated: frozenset[Fact],
    heard_as: Mapping[str, str],
) -> Verdict:
    """Play one scenario. `stated` are the facts the tenant's data holds; `heard_as` replaces what the recogniser
    would make of a line."""
    reply = conversation.opening()
    failures: list[str] = []
    wrong: list[str] = []
    transcript: list[str] = []
    said_by_caller: set[Fact] = set()
    silences = 0
    tools = scenario.get("tools", {})
    assert isinstance(tools, Mapping)
    lines = scenario["lines"]
    assert isinstance(lines, list)
    for number, line in enumerate(lines):
        if "wait" in line:
            silences += 1
            reply = conversation.no_input(reply.state, silences)
        elif "digits" in line:
            said_by_caller |= facts_in(line["digits"])
            reply = await conversation.digits(reply.state, line["digits"], LIVE)
        else:
            silences = 0
            said_by_caller |= facts_in(line["say"])
            reply = await conversation.respond(reply.state, heard_as.get(line["say"], line["say"]), LIVE)
        answer = _text(reply)
        tool_facts: set[Fact] = set()
        used_tool = isinstance(reply.action, RunTool)
        if isinstance(reply.action, RunTool):
            fields = tools.get(reply.action.tool)
            result = ToolResult(
                tool=reply.action.tool, fields=fields or {}, error=None if fields else "tool_unreachable"
            )
            tool_facts = {fact for value in (fields or {}).values() for fact in facts_in(str(value))}
            reply = await conversation.after_tool(reply.state, result)
            answer += " " + _text(reply)
        slots = {fact for value in reply.state.slots.values() for fact in facts_in(value)}
        allowed = stated | said_by_caller | tool_facts | slots
        wrong += [
            f"{fact.kind} {fact.value} in {answer!r}" for fact in facts_in(answer) if not is_stated(fact, allowed)
        ]
        transcript.append(f"> {line} -> [{reply.understanding.intent} {reply.understanding.confidence:.2f}] {answer}")
        failures += [
            f"line {number}: {text}" for text in _failures(line.get("expect", {}), reply, answer, used_tool=used_tool)
        ]
    return Verdict(
        scenario=str(scenario["id"]), failures=tuple(failures), wrong_facts=tuple(wrong), transcript=tuple(transcript)
    )


def stated_facts(conversation: AgentConversation) -> frozenset[Fact]:
    """Return the facts that stand in what the agent may say as it is written."""
    return frozenset(fact for text in conversation.fixed_texts() for fact in facts_in(text))


def _text(reply: Reply) -> str:
    return " ".join(speech.text for speech in reply.speeches)


def _failures(expect: Mapping[str, object], reply: Reply, answer: str, *, used_tool: bool) -> list[str]:
    plain = _plain(answer)
    found: list[str] = []
    if "intent" in expect and reply.understanding.intent != expect["intent"]:
        found.append(f"intent {reply.understanding.intent}, expected {expect['intent']}")
    if "item" in expect and expect["item"] not in {s.citation.item_id for s in reply.speeches if s.citation}:
        found.append(
            f"rests on {[s.citation.item_id for s in reply.speeches if s.citation]}, expected {expect['item']}"
        )
    missing = [phrase for phrase in _phrases(expect, "contains_all") if _plain(phrase) not in plain]
    found += [f"lacks {phrase!r}: {answer!r}" for phrase in missing]
    options = _phrases(expect, "contains_any")
    if options and not any(_plain(phrase) in plain for phrase in options):
        found.append(f"has none of {options}: {answer!r}")
    found += [f"says {phrase!r}" for phrase in _phrases(expect, "not_contains") if _plain(phrase) in plain]
    said = facts_in(answer)
    for text in _phrases(expect, "facts"):
        found += [f"lacks the fact {text}: {answer!r}" for fact in facts_in(text) if not is_stated(fact, said)]
    if "action" in expect and _action(reply, used_tool=used_tool) != expect["action"]:
        found.append(f"action {_action(reply, used_tool=used_tool)}, expected {expect['action']}: {answer!r}")
    return found


def _action(reply: Reply, *, used_tool: bool) -> str:
    match reply.action:
        case Escalate():
            return "escalate"
        case EndCall():
            return "end"
        case _:
            return "tool" if isinstance(reply.action, RunTool) and used_tool else "none"


def _phrases(expect: Mapping[str, object], key: str) -> list[str]:
    value = expect.get(key, [])
    assert isinstance(value, list)
    return [str(phrase) for phrase in value]


def _plain(text: str) -> str:
    lowered = text.lower().replace("-", " ").replace("'", "")
    return " " + " ".join(re.sub(r"[^a-z0-9 ]", " ", lowered).split()) + " "
