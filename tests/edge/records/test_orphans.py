"""Calls of a dead worker are ended; calls of a living one are left alone."""

import signal
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import apsw

from edge.call.ports import HangupCause
from edge.conversation.dialogue import CallOutcome
from edge.records.database import DatabaseSettings, database_path
from edge.records.model import CallRecord, Transport, TurnRecord
from edge.records.orphans import WORKER_DIED, close_orphans
from edge.records.presence import FOLDER, Presence, forget_dead, is_alive
from edge.records.store import CallReader, CallStore, StoreSettings
from edge.records.subjects import SubjectId

NOON = datetime(2026, 11, 23, 12, 0, tzinfo=UTC)
DATABASE = DatabaseSettings()
HOLDER = """
import sys, time
from pathlib import Path
from edge.records.presence import Presence
with Presence(Path(sys.argv[1])) as presence:
    print(presence.run, flush=True)
    time.sleep(60)
"""


def a_call(call_id: str) -> CallRecord:
    return CallRecord(
        call_id=call_id,
        tenant="acme",
        agent="pharmacy",
        agent_version="3",
        subject_id=SubjectId("a" * 32),
        called_number="+4930123456",
        transport=Transport.SIP,
        started_at=NOON,
        answered_at=NOON + timedelta(seconds=1),
    )


def a_turn(call_id: str, began_at: datetime) -> TurnRecord:
    return TurnRecord(
        call_id=call_id,
        tenant="acme",
        subject_id=SubjectId("a" * 32),
        seq=1,
        began_at=began_at,
        caller_text="hello",
        agent_text="Hello.",
        is_silent=True,
    )


def ended(directory: Path) -> list[tuple[object, ...]]:
    connection = apsw.Connection(str(database_path(directory, "acme")))
    found = connection.execute("SELECT seq, call_id FROM ended_calls ORDER BY seq").fetchall()
    connection.close()
    return list(found)


async def test_a_call_is_listed_once_when_it_ends_in_the_order_of_ending(tmp_path: Path) -> None:
    async with CallStore(tmp_path, StoreSettings()) as store:
        for call_id in ("first", "second"):
            await store.save(a_call(call_id))
        assert ended(tmp_path) == []
        for call_id in ("second", "first", "second"):
            await store.save(replace(a_call(call_id), ended_at=NOON + timedelta(minutes=1)))
    assert ended(tmp_path) == [(1, "second"), (2, "first")]


async def test_a_turn_without_sound_says_so(tmp_path: Path) -> None:
    async with CallStore(tmp_path, StoreSettings()) as store:
        await store.save(a_call("c1"))
        await store.save(a_turn("c1", NOON))
    assert CallReader(tmp_path, "acme", DATABASE).turns("c1")[0].is_silent


async def test_the_next_worker_ends_what_a_stopped_one_left_open(tmp_path: Path) -> None:
    async with CallStore(tmp_path, StoreSettings()) as store:
        await store.save(a_call("left"))
        await store.save(a_turn("left", NOON + timedelta(seconds=30)))
    async with CallStore(tmp_path, StoreSettings()) as store:
        await store.save(a_call("mine"))
        call = CallReader(tmp_path, "acme", DATABASE).call("left")
    assert call is not None
    assert call.ended_at == NOON + timedelta(seconds=30)
    assert (call.outcome, call.hangup_cause, call.reason) == (
        CallOutcome.FAILED,
        HangupCause.TEMPORARY_FAILURE,
        WORKER_DIED,
    )
    assert ended(tmp_path) == [(1, "left")]


async def test_calls_of_a_living_worker_stay_open(tmp_path: Path) -> None:
    async with CallStore(tmp_path, StoreSettings()) as store:
        await store.save(a_call("c1"))
        assert close_orphans(tmp_path, "acme", DATABASE) == 0
    assert close_orphans(tmp_path, "acme", DATABASE) == 1


async def test_calls_of_an_older_release_are_ended_too(tmp_path: Path) -> None:
    async with CallStore(tmp_path, StoreSettings()) as store:
        await store.save(a_call("c1"))
        connection = apsw.Connection(str(database_path(tmp_path, "acme")))
        connection.execute("UPDATE calls SET worker = NULL")
        connection.close()
        assert close_orphans(tmp_path, "acme", DATABASE) == 1


def test_a_run_dies_with_its_process_however_that_dies(tmp_path: Path) -> None:
    with subprocess.Popen([sys.executable, "-c", HOLDER, str(tmp_path)], stdout=subprocess.PIPE, text=True) as holder:
        assert holder.stdout is not None
        run = holder.stdout.readline().strip()
        assert is_alive(tmp_path, run)
        holder.send_signal(signal.SIGKILL)
        holder.wait(10)
    assert not is_alive(tmp_path, run)
    with Presence(tmp_path) as mine:
        forget_dead(tmp_path)
        assert [path.name for path in (tmp_path / FOLDER).iterdir()] == [mine.run]


def test_workers_that_start_together_do_not_take_each_other_for_dead(tmp_path: Path) -> None:
    stop = threading.Event()

    def look() -> None:
        while not stop.is_set():
            forget_dead(tmp_path)

    with Presence(tmp_path), ThreadPoolExecutor(2) as pool:
        looks = [pool.submit(look) for _ in range(2)]
        alive = []
        for _ in range(300):
            with Presence(tmp_path) as presence:
                alive.append(is_alive(tmp_path, presence.run))
        stop.set()
        for done in looks:
            done.result(10)
    assert all(alive)
