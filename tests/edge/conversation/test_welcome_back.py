"""A caller who was cut off rings back: what is said first, and that consent is a person's, not a telephone's."""

import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import yaml

from edge.call.ports import Embedder
from edge.conversation.conversation import AgentConversation
from edge.conversation.dialogue import AnswerKind, PendingKind, Reply, RunTool, Speech, SpeechSource
from edge.conversation.documents import load_agents
from tests.edge.conversation.conftest import NOW, ROOT, Opener
from tests.edge.conversation.test_conversation import CONSENT, LIVE, _play, _said

BANK = ROOT / "edge/tenants/harbour-bank"


async def rung_back(conversation: AgentConversation, before: Reply) -> Reply:
    return conversation.welcome_back(conversation.restored(before.state))


async def with_consent(embedder: Embedder, vectors: Path, *, is_carried_over: bool) -> AgentConversation:
    agent = replace(load_agents(BANK)[0], consent=replace(CONSENT, is_carried_over=is_carried_over))
    return await AgentConversation.load(agent, embedder, cache=vectors, now=lambda: NOW)


async def test_a_task_goes_on_with_its_open_question(open_tenant: Opener) -> None:
    """What was given before need not be given again."""
    conversation = await open_tenant("harbour-bank")
    before = await _play(conversation, "I lost my card", "debit")
    reply = await rung_back(conversation, before)
    texts = conversation.agent.phrases
    assert _said(reply).startswith(f"{texts.ring_back} Now, back to your lost card. ")
    assert reply.speeches[-1].text == before.state.last_speech
    assert reply.state.expectation.kind is AnswerKind.DIGITS
    assert "debit card ending in one nine four four" in _said(await conversation.respond(reply.state, "1 9 4 4", LIVE))


async def test_the_last_question_is_named_and_the_next_rests_on_it(open_tenant: Opener) -> None:
    conversation = await open_tenant("harbour-bank")
    before = await _play(conversation, "what time do you close on Friday")
    reply = await rung_back(conversation, before)
    assert "You were asking about opening hours on Friday." in _said(reply)
    assert reply.speeches[-1].text == before.state.last_speech
    assert "saturday" in _said(await conversation.respond(reply.state, "and what about Saturday", LIVE)).lower()


async def test_an_answer_that_was_cut_off_takes_the_place_of_the_last_words(open_tenant: Opener) -> None:
    conversation = await open_tenant("harbour-bank")
    before = await _play(conversation, "what time do you close on Friday")
    unheard = Speech(text="We close at five thirty.", source=SpeechSource.PASSAGE)
    reply = conversation.welcome_back(before.state, (unheard,))
    assert reply.speeches[-1] == unheard
    assert _said(reply).count("five thirty") == 1


async def test_who_had_not_said_anything_is_welcomed_and_heard(open_tenant: Opener) -> None:
    conversation = await open_tenant("harbour-bank")
    reply = await rung_back(conversation, conversation.opening())
    assert _said(reply) == f"{conversation.agent.phrases.ring_back} {conversation.agent.greeting}"


async def test_consent_is_asked_anew_and_nothing_of_the_call_is_told_before(embedder: Embedder, vectors: Path) -> None:
    """Then the task goes on where it stood."""
    conversation = await with_consent(embedder, vectors, is_carried_over=False)
    before = await _play(conversation, "yes", "I lost my card", "debit")
    reply = await rung_back(conversation, before)
    assert _said(reply) == f"{conversation.agent.phrases.ring_back} {CONSENT.prompt}"
    assert not reply.state.has_consent
    asked = await conversation.respond(reply.state, "1 9 4 4", LIVE)
    assert _said(asked) == CONSENT.again
    agreed = await conversation.respond(asked.state, "yes", LIVE)
    assert agreed.state.has_consent
    assert agreed.understanding.intent == "consent_given"
    assert _said(agreed) == f"{CONSENT.accepted} Now, back to your lost card. {before.state.last_speech}"
    assert agreed.state.expectation.kind is AnswerKind.DIGITS


async def test_consent_is_carried_over_where_the_law_lets_it(embedder: Embedder, vectors: Path) -> None:
    """But none that was never given."""
    conversation = await with_consent(embedder, vectors, is_carried_over=True)
    reply = await rung_back(conversation, await _play(conversation, "yes", "I lost my card"))
    assert reply.state.has_consent
    assert CONSENT.prompt not in _said(reply)
    asked = await rung_back(conversation, conversation.opening())
    assert asked.state.pending is not None
    assert asked.state.pending.kind is PendingKind.CONSENT


async def test_a_tool_that_was_under_way_is_not_run_by_a_new_consent(embedder: Embedder, vectors: Path) -> None:
    """Its effect may have happened; the caller is asked what they want."""
    conversation = await with_consent(embedder, vectors, is_carried_over=False)
    before = await _play(conversation, "yes", "I lost my card", "debit", "1 9 4 4", "yes")
    assert isinstance(before.action, RunTool)
    reply = await rung_back(conversation, before)
    assert reply.state.flow is None
    agreed = await conversation.respond(reply.state, "yes", LIVE)
    assert (agreed.action, agreed.state.flow) == (None, None)


def _recording(rule: str | None) -> Callable[[dict[str, Any]], None]:
    def change(document: dict[str, Any]) -> None:
        if document["kind"] == "Tenant":
            document["spec"]["governance"] = {} if rule is None else {"recording": {"consent": rule}}

    return change


def _consent(document: dict[str, Any]) -> None:
    if document["kind"] == "Agent":
        texts = {"prompt": CONSENT.prompt, "again": CONSENT.again}
        document["spec"]["consent"] = {**texts, "accepted": CONSENT.accepted, "declined": CONSENT.declined}


@pytest.mark.parametrize(
    ("recording", "is_carried_over"), [(None, False), ("opt_in", False), ("notice", True), ("none", True)]
)
def test_the_tenants_rule_for_recording_says_whether_consent_is_carried(
    tmp_path: Path, recording: str | None, *, is_carried_over: bool
) -> None:
    """Where the tenant says nothing the strictest rule holds."""
    shutil.copytree(BANK, tmp_path / "bank")
    for path, change in (("tenant.yaml", _recording(recording)), ("agent.yaml", _consent)):
        documents = list(yaml.safe_load_all((tmp_path / "bank" / path).read_text()))
        for document in documents:
            change(document)
        (tmp_path / "bank" / path).write_text(yaml.safe_dump_all(documents))
    (agent,) = load_agents(tmp_path / "bank")
    assert agent.consent is not None
    assert agent.consent.is_carried_over is is_carried_over
