"""A node of the region is lost with a call, and its caller rings back at another. Real Asterisk and models."""

import asyncio

from bench.run import CALLER_NUMBERS_FROM
from bench.target import Target
from edge.call.region import join, taking_part
from edge.call.saved_call import Phase, SavedCall
from edge.call.settings import CallsSettings
from edge.conversation.dialogue import DialogueState, Exchange
from edge.observability.metrics import CallMetrics
from edge.records.database import DatabaseSettings
from edge.records.model import Resumptions
from edge.records.store import CallReader
from edge.records.subjects import SubjectId, name_subject
from edge.records.verification import Verdict, verify
from edge.settings_file import load_settings
from tests.e2e.calling import placed
from tests.e2e.test_calls import BANK, lines_of

WITHIN_S = 20.0
FRIDAY = "On Fridays we're open from nine a.m. to five thirty p.m."


def cut_off(call_id: str, subject_id: SubjectId) -> SavedCall:
    """A call in which the caller has just heard when the branch closes on Friday."""
    asked = Exchange(caller="what time do you close on friday", agent=FRIDAY, intent="opening_hours")
    return SavedCall(
        call_id=call_id,
        tenant=BANK,
        agent="front-desk",
        subject_id=subject_id,
        phase=Phase.TALKING,
        dialogue=DialogueState(history=(asked,), topic_item_id="hours-friday", last_speech=FRIDAY, has_consent=True),
        next_seq=2,
        silences=0,
        intent="opening_hours",
    )


async def lose(settings: CallsSettings, saved: SavedCall) -> None:
    """A worker of a sibling node tells where its call stands, and is gone."""
    assert settings.sessions is not None
    sibling = settings.sessions.model_copy(update={"node": "local-9"})
    region = join(sibling, settings.records, "0-lost", metrics=CallMetrics.create(), keep=lambda _: None)
    assert region is not None
    async with asyncio.timeout(WITHIN_S), taking_part(region):
        await region.link.ready()
        region.sessions.keep(saved, window_s=600.0)
        await region.sessions.flush(WITHIN_S)


def test_who_was_cut_off_goes_on_where_they_were(region: Target) -> None:
    """The next answer rests on the question of the lost call; the records tell of both."""
    settings = load_settings(next(region.records.parent.glob("run/calls-1.toml")), CallsSettings)
    subject_key = settings.records.subject_key_file.read_bytes()
    saved = cut_off("lost.1", name_subject(f"+{CALLER_NUMBERS_FROM}", subject_key))
    asyncio.run(lose(settings, saved))
    (trace,) = placed(region, lines_of("And what about Saturday?"))
    assert not trace.problems
    reader = CallReader(region.records, BANK, DatabaseSettings())
    call = reader.recent_calls(1)[0]
    welcome, answer = reader.turns(call.call_id)
    assert welcome.agent_text.startswith("Welcome back.")
    assert "You were asking about opening hours on Friday." in welcome.agent_text
    assert "saturday" in answer.agent_text.lower()
    assert reader.resumptions(call.call_id) == Resumptions(resumes="lost.1")
    assert verify(region.records, BANK, DatabaseSettings()).verdict is Verdict.WHOLE
