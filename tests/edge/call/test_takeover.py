"""Calls of dead workers that nobody can go on with are ended in the records, at once and with the right reason."""

import asyncio
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from edge.call.reception import Reception
from edge.call.recorded_states import RecordedStates
from edge.call.roster import ServedRoster
from edge.call.saved_call import encode
from edge.call.siblings import Sibling
from edge.call.slots import SlotLedger
from edge.call.takeover import Takeover, _patiently
from edge.conversation.dialogue import CallOutcome
from edge.observability.metrics import CallMetrics
from edge.records.database import DatabaseSettings
from edge.records.model import Record, StateRecord, Transport
from edge.records.orphans import WORKER_DIED
from edge.records.store import CallReader, CallStore, StoreSettings
from edge.speech.prepared import PreparedAudio
from edge.telephony.errors import AriRefusedError, AriRequestError, AriUnavailableError, TelephonyError
from edge.turn.vad import SileroModel
from tests.edge.call.talk import ScriptedRecogniser, WordsAsAudio
from tests.edge.call.test_resumption import REPLYING, SAVED
from tests.edge.records.test_orphans import a_call
from tests.edge.turn.conftest import MODEL

DATABASE = DatabaseSettings()


def ignore(record: Record) -> None:
    """No call is carried here."""


def takeover_of(
    store: CallStore,
    directory: Path,
    tasks: asyncio.TaskGroup,
    metrics: CallMetrics,
    keep: Callable[[Record], None],
) -> Takeover:
    if not MODEL.exists():
        pytest.skip(f"{MODEL} is missing: fetch it with `borough models fetch`")
    reception = Reception(
        roster=ServedRoster(),
        transcriber=ScriptedRecogniser(""),
        audio=PreparedAudio(directory, WordsAsAudio(), model="m"),
        vad=SileroModel(MODEL),
        slots=SlotLedger(directory=directory / "slots", capacity=2),
        metrics=metrics,
        keep=keep,
        subject_key=bytes(32),
    )
    states = RecordedStates(store=store, directory=directory, settings=DATABASE, record=ignore)
    return Takeover(states=states, reception=reception, inbound=None, tasks=tasks)


async def test_a_call_from_the_page_ends_with_its_worker(tmp_path: Path) -> None:
    """Its audio was in the dead process; what the caller said last is on record, its slot is not kept for anybody."""
    metrics, kept = CallMetrics.create(), list[Record]()
    async with store_of(tmp_path) as alive:
        async with store_of(tmp_path) as dying:
            await dying.save(replace(a_call("web"), transport=Transport.WEBRTC))
            state = encode(replace(SAVED, call_id="web", tenant="acme", turn=REPLYING, next_seq=3))
            await dying.save(
                StateRecord(call_id="web", tenant="acme", subject_id=a_call("web").subject_id, state=state)
            )
            run = dying.run
        await alive.save(a_call("mine"))
        async with asyncio.TaskGroup() as tasks:
            takeover = takeover_of(alive, tmp_path, tasks, metrics, kept.append)
            (tmp_path / "slots").mkdir()
            (tmp_path / "slots" / "0000").write_text("web")
            await takeover.sibling_died(Sibling(run=run, app="calls-2"))
            for record in kept:
                await alive.save(record)
            with takeover.reception.slots.take("new"), takeover.reception.slots.take("another"):
                pass
    reader = CallReader(tmp_path, "acme", DATABASE)
    web, mine = reader.call("web"), reader.call("mine")
    assert web is not None
    assert mine is not None
    assert (web.outcome, web.reason) == (CallOutcome.FAILED, WORKER_DIED)
    (turn,) = reader.turns("web")
    assert (turn.seq, turn.caller_text, turn.agent_text) == (2, REPLYING.caller_text, "")
    assert web.ended_at == turn.began_at
    assert mine.ended_at is None
    assert metrics.adoptions_refused.labels(reason="webrtc")._value.get() == 1


async def test_a_draining_worker_takes_nothing_over(tmp_path: Path) -> None:
    """It would only have to end it again; a sibling or the next start looks after it."""
    async with store_of(tmp_path) as alive:
        async with store_of(tmp_path) as dying:
            await dying.save(a_call("c1"))
            run = dying.run
        async with asyncio.TaskGroup() as tasks:
            takeover = takeover_of(alive, tmp_path, tasks, CallMetrics.create(), ignore)
            takeover.reception.closing.set()
            await takeover.sibling_died(Sibling(run=run, app="calls-2"))
    call = CallReader(tmp_path, "acme", DATABASE).call("c1")
    assert call is not None
    assert call.ended_at is None


def store_of(directory: Path) -> CallStore:
    return CallStore(directory, StoreSettings(), closes_orphans=False)


class Asked:
    """An Asterisk that fails as the test says, the last time again and again."""

    def __init__(self, *answers: TelephonyError | str) -> None:
        self.answers = list(answers)
        self.times = 0

    async def __call__(self) -> str:
        self.times += 1
        answer = self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]
        if isinstance(answer, TelephonyError):
            raise answer
        return answer


async def test_a_slow_asterisk_is_asked_again(monkeypatch: pytest.MonkeyPatch) -> None:
    """Until it answers; where nobody listens any more there is nothing to wait for."""
    monkeypatch.setattr("edge.call.takeover.ASK_AGAIN_S", 0.0)
    slow = Asked(AriUnavailableError("slow"), AriRequestError("GET", 503, "starting"), "here")
    assert await _patiently(slow) == "here"
    assert slow.times == 3
    gone = Asked(AriUnavailableError("slow"), AriRefusedError("gone"), "here")
    with pytest.raises(AriRefusedError):
        await _patiently(gone)
    assert gone.times == 2


async def test_an_asterisk_that_never_answers_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("edge.call.takeover.ANSWERS_WITHIN_S", 0.1)
    silent = Asked(AriUnavailableError("silent"))
    with pytest.raises(AriUnavailableError):
        await _patiently(silent)
    assert silent.times >= 2
