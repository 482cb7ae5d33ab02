"""Every ended call is in exactly one rollup, whenever the process is killed; the outbox stays within its bound."""

import os
import random
import shutil
import signal
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from hashlib import sha256
from itertools import repeat
from pathlib import Path

import apsw
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from contract import uplink_guard
from contract.sketch import LatencySketch
from contract.uplink_pb2 import Capacity, Rollup
from edge.rollups.errors import LedgerError, LedgerOwnerError
from edge.rollups.ledger import HOUR, LedgerSettings, RollupLedger
from tests.edge.rollups.node_records import BEGAN_MS, Call, NodeRecords, Turn

NOW = BEGAN_MS / 1000 + 3600
HOUR_MS = 3_600_000


class HubStream:
    """What the hub has stored: a folder of files, one a rollup, that survives the killing of a process."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        folder.mkdir(exist_ok=True)

    def store(self, seq: int, body: bytes) -> None:
        """Store once by seq; the same seq must never come with other content."""
        path = self._folder / str(seq)
        if path.exists():
            assert path.read_bytes() == body
            return
        path.with_suffix(".part").write_bytes(body)
        path.with_suffix(".part").rename(path)

    def rollups(self) -> list[Rollup]:
        return [Rollup.FromString(path.read_bytes()) for path in self._folder.iterdir() if not path.suffix]


def ledger_at(
    tmp_path: Path, settings: LedgerSettings | None = None, alarm: Callable[[bool], None] = lambda _: None
) -> RollupLedger:
    return RollupLedger(tmp_path / "rollups.db", "in-south", "node-1", settings=settings, alarm=alarm)


def drain(ledger: RollupLedger, hub: HubStream) -> None:
    while waiting := ledger.waiting():
        for seq, body in waiting:
            hub.store(seq, body)
            ledger.confirm(seq)


def calls_by_agent(rollups: list[Rollup]) -> Counter[str]:
    counts: Counter[str] = Counter()
    for rollup in rollups:
        for entry in rollup.entries:
            counts[entry.agent] += entry.calls.total
    return counts


def numbered(first: int, count: int, tenant: str = "acme") -> list[Call]:
    """Calls that each have an agent of their own, so that a call counted twice or never is seen."""
    return [
        Call(call_id=f"{tenant}-{number}", tenant=tenant, agent=f"agent-{number}", started_ms=BEGAN_MS + number * 7_000)
        for number in range(first, first + count)
    ]


def test_calls_of_all_tenants_are_cut_once_and_wait_until_they_are_confirmed(tmp_path: Path) -> None:
    records = NodeRecords(tmp_path / "records")
    records.add(*numbered(0, 3), *numbered(10, 2, tenant="other"))
    with ledger_at(tmp_path) as ledger:
        assert ledger.cut(records.directory, NOW) == 1
        assert ledger.cut(records.directory, NOW) == 0
        ((seq, body),) = ledger.waiting()
        assert ledger.waiting() == [(seq, body)]
        rollup = Rollup.FromString(body)
        assert (rollup.region, rollup.node, rollup.seq) == ("in-south", "node-1", seq)
        assert calls_by_agent([rollup]) == Counter({f"agent-{number}": 1 for number in (0, 1, 2, 10, 11)})
        ledger.confirm(seq)
        ledger.confirm(seq)
        assert ledger.waiting() == []
        assert ledger.waiting_count == 0
        cut, confirmed = ledger.totals(is_confirmed=False), ledger.totals(is_confirmed=True)
        assert cut == confirmed
        assert (cut["acme"].calls, cut["acme"].turns, cut["other"].calls) == (3, 3, 2)


def test_a_ledger_goes_on_where_it_was_closed(tmp_path: Path) -> None:
    records = NodeRecords(tmp_path / "records")
    records.add(*numbered(0, 2))
    with ledger_at(tmp_path) as ledger:
        ledger.cut(records.directory, NOW)
        before = ledger.waiting()
    records.add(*numbered(2, 1))
    with ledger_at(tmp_path) as ledger:
        ledger.cut(records.directory, NOW)
        waiting = ledger.waiting()
        assert waiting[:1] == before
        assert calls_by_agent([Rollup.FromString(body) for _, body in waiting]) == Counter(
            {f"agent-{number}": 1 for number in range(3)}
        )


def test_many_calls_are_split_into_rollups_that_fit_a_message(tmp_path: Path) -> None:
    records = NodeRecords(tmp_path / "records")
    records.add(*numbered(0, 700))
    with ledger_at(tmp_path, LedgerSettings(rollup_bytes=8_192)) as ledger:
        assert ledger.cut(records.directory, NOW) > 10
        waiting = ledger.waiting(1000)
        assert max(len(body) for _, body in waiting) < 10_000
        counts = calls_by_agent([Rollup.FromString(body) for _, body in waiting])
        assert counts == Counter({f"agent-{number}": 1 for number in range(700)})
        assert [seq for seq, _ in waiting] == list(range(waiting[0][0], waiting[0][0] + len(waiting)))


def test_a_cut_by_the_hour_has_the_same_counts_and_fewer_entries(tmp_path: Path) -> None:
    records = NodeRecords(tmp_path / "records")
    records.add(*(Call(call_id=f"c{number}", started_ms=BEGAN_MS + number * 20_000) for number in range(60)))
    sizes = []
    for name, step_minutes in (("fine", 1), ("coarse", HOUR)):
        with ledger_at(tmp_path / name) as ledger:
            ledger.cut(records.directory, NOW, step_minutes=step_minutes)
            ((_, body),) = ledger.waiting()
            assert ledger.totals(is_confirmed=False)["acme"].calls == 60
        sizes.append(len(body))
    assert sizes[1] < sizes[0] / 5


def test_a_caller_who_rings_back_within_a_day_is_a_repeat(tmp_path: Path) -> None:
    records = NodeRecords(tmp_path / "records")
    day_ms = 24 * HOUR_MS
    records.add(
        Call(call_id="first", subject="anna"),
        Call(call_id="back", subject="anna", started_ms=BEGAN_MS + day_ms),
        Call(call_id="late", subject="anna", started_ms=BEGAN_MS + 2 * day_ms + 1),
        Call(call_id="somebody", subject="ben", started_ms=BEGAN_MS + 1),
    )
    with ledger_at(tmp_path) as ledger:
        ledger.cut(records.directory, NOW)
        assert ledger.totals(is_confirmed=False)["acme"].repeated == 1


def test_what_the_region_has_not_heard_is_told_with_a_later_cut_once(tmp_path: Path) -> None:
    records = NodeRecords(tmp_path / "records")
    records.add(*numbered(0, 600), Call(call_id="from-the-page", transport="webrtc", started_ms=BEGAN_MS))
    records.add(Call(call_id="other-0", tenant="other"), Call(call_id="too-old", started_ms=BEGAN_MS - 25 * HOUR_MS))
    with ledger_at(tmp_path) as ledger:
        ledger.cut(records.directory, NOW)
        records.add(Call(call_id="new", subject="ben"))
        first = ledger.read(records.directory, NOW)
        assert first.holds_calls
        told = {sighting.call_id: True for sighting in first.sightings if sighting.tenant == "acme"}
        assert len(told) == 501
        assert ledger.store(first, NOW, told=told) == 1
        # What was counted stays as it was; the new one is what the region says.
        assert ledger.totals(is_confirmed=False)["acme"].repeated == 601
    with ledger_at(tmp_path) as ledger:
        second = ledger.read(records.directory, NOW)
        assert not second.holds_calls
        ids = [sighting.call_id for sighting in second.sightings]
        assert len(ids) == 102
        assert ledger.store(second, NOW, Capacity(slots=3), told=dict.fromkeys(ids, False)) == 0
        assert ledger.read(records.directory, NOW).sightings == []
        records.add(Call(call_id="newer"))
        third = ledger.read(records.directory, NOW)
        assert [sighting.call_id for sighting in third.sightings] == ["newer"]
        ledger.store(third, NOW, told={"newer": False})
        assert ledger.read(records.directory, NOW).sightings == []


def test_every_rollup_passes_the_border_guard(tmp_path: Path) -> None:
    records = NodeRecords(tmp_path / "records")
    words = "My number is 0170 1234567"
    turns = (Turn(intent=words), Turn(intent="slot:0170"), Turn(intent="price-1234567", sent_ms=None))
    records.add(
        Call(call_id="odd", agent=words, agent_version=words, outcome="escalated", reason=words, turns=turns),
        Call(call_id="plain", tenant="0170-1234567"),
    )
    with ledger_at(tmp_path) as ledger:
        ledger.cut(records.directory, NOW, Capacity(slots=28, slots_used_peak=3))
        ((_, body),) = ledger.waiting()
    rollup, problems = uplink_guard.read(Rollup, body)
    assert problems == []
    assert sum(entry.calls.total for entry in rollup.entries) == 2
    assert {entry.intent for entry in rollup.entries} == {"other", "slot", "opening_hours", ""}


def test_capacity_travels_even_without_calls_when_the_node_was_used(tmp_path: Path) -> None:
    (tmp_path / "records").mkdir()
    with ledger_at(tmp_path) as ledger:
        assert ledger.cut(tmp_path / "records", NOW, Capacity(slots=28)) == 0
        assert ledger.cut(tmp_path / "records", NOW, Capacity(slots=28, slots_used_peak=3, refused=1)) == 1
        ((_, body),) = ledger.waiting()
        assert Rollup.FromString(body).capacity.slots_used_peak == 3


def test_a_tenant_whose_records_cannot_be_read_is_counted_later(tmp_path: Path) -> None:
    records = NodeRecords(tmp_path / "records")
    records.add(*numbered(0, 1), *numbered(5, 1, tenant="broken"))
    broken = records.directory / "broken.sqlite3"
    content = broken.read_bytes()
    broken.write_bytes(b"no database at all" * 100)
    with ledger_at(tmp_path) as ledger:
        ledger.cut(records.directory, NOW)
        assert set(ledger.totals(is_confirmed=False)) == {"acme"}
        broken.write_bytes(content)
        ledger.cut(records.directory, NOW)
        assert ledger.totals(is_confirmed=False)["broken"].calls == 1


def test_records_that_were_restored_to_an_earlier_moment_lose_and_repeat_no_call(tmp_path: Path) -> None:
    """Places of the list are given again to other calls after a restore; the ledger notices by the calls in them."""
    records = NodeRecords(tmp_path / "records")
    records.add(*numbered(0, 5))
    backup = (records.directory / "acme.sqlite3").read_bytes()
    records.add(*numbered(5, 3))
    with ledger_at(tmp_path) as ledger:
        ledger.cut(records.directory, NOW)
        for suffix in ("-wal", "-shm"):
            (records.directory / f"acme.sqlite3{suffix}").unlink(missing_ok=True)
        (records.directory / "acme.sqlite3").write_bytes(backup)
        records.add(*numbered(20, 1))
        ledger.cut(records.directory, NOW)
        records.add(*numbered(21, 4))
        ledger.cut(records.directory, NOW)
        counts = calls_by_agent([Rollup.FromString(body) for _, body in ledger.waiting()])
    assert counts == Counter({f"agent-{number}": 1 for number in (*range(8), *range(20, 25))})


def test_calls_that_were_erased_are_no_restore(tmp_path: Path) -> None:
    records = NodeRecords(tmp_path / "records")
    records.add(*numbered(0, 5))
    with ledger_at(tmp_path) as ledger:
        ledger.cut(records.directory, NOW)
        connection = apsw.Connection(str(records.directory / "acme.sqlite3"))
        connection.execute("PRAGMA foreign_keys = ON; DELETE FROM calls WHERE call_id IN ('acme-3', 'acme-4')")
        connection.close()
        assert ledger.cut(records.directory, NOW) == 0
        records.add(*numbered(7, 1))
        ledger.cut(records.directory, NOW)
        assert ledger.totals(is_confirmed=False)["acme"].calls == 6


def test_a_ledger_of_another_node_is_refused(tmp_path: Path) -> None:
    with ledger_at(tmp_path):
        pass
    with pytest.raises(LedgerOwnerError), RollupLedger(tmp_path / "rollups.db", "in-south", "node-2"):
        pass


def test_a_ledger_that_cannot_be_written_says_so_and_counts_later(tmp_path: Path) -> None:
    records = NodeRecords(tmp_path / "records")
    records.add(*numbered(0, 1))
    with ledger_at(tmp_path) as ledger:
        other = apsw.Connection(str(tmp_path / "rollups.db"))
        other.execute("BEGIN IMMEDIATE")
        with pytest.raises(LedgerError):
            ledger.cut(records.directory, NOW)
        other.execute("ROLLBACK")
        other.close()
        assert ledger.cut(records.directory, NOW) == 1


def test_a_new_ledger_repeats_no_number_of_an_older_one(tmp_path: Path) -> None:
    """The node was set up anew, its ledger is lost; it had cut one rollup a minute for a month."""
    records = NodeRecords(tmp_path / "records")
    records.add(*numbered(0, 1))
    seqs = []
    for name, now in (("one", NOW), ("two", NOW + 30 * 86_400)):
        clock = repeat(now)
        with RollupLedger(tmp_path / name, "in-south", "node-1", clock=clock.__next__) as ledger:
            ledger.cut(records.directory, NOW)
            seqs += [seq for seq, _ in ledger.waiting()]
    assert seqs[1] - seqs[0] > 30 * 1440
    assert seqs[1] < uplink_guard.MAX_COUNT


# --- the bound ------------------------------------------------------------------------------------------------------
def busy_hours(records: NodeRecords, ledger: RollupLedger, hours: int) -> int:
    """Cut every five minutes of so many hours; returns how many calls there were."""
    number = 0
    for minute in range(0, hours * 60, 5):
        for _ in range(6):
            sent_ms = 150 + (number * 37) % 400
            started_ms = BEGAN_MS + minute * 60_000
            records.add(Call(call_id=f"c{number}", started_ms=started_ms, turns=(Turn(sent_ms=sent_ms),)))
            number += 1
        ledger.cut(records.directory, NOW)
    return number


@pytest.mark.parametrize("limit_bytes", [20_000, 4_000])
def test_a_full_outbox_gets_coarser_and_loses_no_count(tmp_path: Path, limit_bytes: int) -> None:
    records = NodeRecords(tmp_path / "records")
    told: list[bool] = []
    with ledger_at(tmp_path, LedgerSettings(limit_bytes=limit_bytes), alarm=told.append) as ledger:
        offered = ledger.waiting()
        number = busy_hours(records, ledger, 8)
        assert told[0] is False
        assert told[-1] is True
        rollups = [Rollup.FromString(body) for _, body in ledger.waiting(1000)]
        assert sum(len(rollup.SerializeToString()) for rollup in rollups) < limit_bytes
        assert offered == []
        assert sum(entry.calls.total for rollup in rollups for entry in rollup.entries) == number
        total = LatencySketch()
        for entry in (entry for rollup in rollups for entry in rollup.entries):
            total.merge(entry.turns.response_ms)
        assert total.count == number
        hub = HubStream(tmp_path / "hub")
        drain(ledger, hub)
        assert told[-1] is False
        assert ledger.totals(is_confirmed=True) == ledger.totals(is_confirmed=False)


def test_what_was_offered_is_never_changed_by_the_bound(tmp_path: Path) -> None:
    """The hub may have it: its answer was lost, the node stayed cut off, and the outbox filled up."""
    records, hub = NodeRecords(tmp_path / "records"), HubStream(tmp_path / "hub")
    with ledger_at(tmp_path, LedgerSettings(limit_bytes=6_000)) as ledger:
        number = busy_hours(records, ledger, 1)
        for seq, body in ledger.waiting(5):
            hub.store(seq, body)
        connection = apsw.Connection(str(records.directory / "acme.sqlite3"))
        connection.execute("PRAGMA foreign_keys = ON; DELETE FROM calls")
        connection.close()
        number += busy_hours(records, ledger, 5)
        drain(ledger, hub)
        assert sum(entry.calls.total for rollup in hub.rollups() for entry in rollup.entries) == number


# --- kill -9 --------------------------------------------------------------------------------------------------------
@contextmanager
def child(work: Callable[[], None]) -> Iterator[int]:
    """Run `work` in a process of its own, which the block may kill."""
    pid = os.fork()
    if not pid:
        try:
            work()
        finally:
            os._exit(0)
    try:
        yield pid
    finally:
        os.waitpid(pid, 0)


def killed_at(statement: int, work: Callable[[], None]) -> bool:
    """Kill -9 a process that does `work` before its n-th statement in the ledger; False if it got to its end before."""

    def count_and_die(connection: apsw.Connection) -> None:
        def trace(_cursor: apsw.Cursor, _sql: str, _bindings: object) -> bool:
            nonlocal statement
            statement -= 1
            if statement < 0:
                os.kill(os.getpid(), signal.SIGKILL)
            return True

        if connection.filename.endswith("rollups.db"):
            connection.exec_trace = trace

    pid = os.fork()
    if not pid:
        apsw.connection_hooks.append(count_and_die)
        try:
            work()
        finally:
            os._exit(0)
    _, status = os.waitpid(pid, 0)
    return os.WIFSIGNALED(status)


def test_killed_before_any_statement_every_call_is_counted_exactly_once(tmp_path: Path) -> None:
    """Every point between two SQL statements of opening, cutting, offering, sending and confirming."""
    begun = tmp_path / "begun"
    NodeRecords(begun / "records").add(*numbered(0, 2), *numbered(2, 1, tenant="other"))
    statement, was_killed = 0, True
    while was_killed:
        folder = tmp_path / str(statement)
        shutil.copytree(begun, folder)
        hub = HubStream(folder / "hub")

        def work(folder: Path = folder, hub: HubStream = hub) -> None:
            with ledger_at(folder) as ledger:
                ledger.cut(folder / "records", NOW)
                drain(ledger, hub)

        was_killed = killed_at(statement, work)
        NodeRecords(folder / "records").add(*numbered(3, 1))
        with ledger_at(folder) as ledger:
            ledger.cut(folder / "records", NOW)
            drain(ledger, hub)
            totals = ledger.totals(is_confirmed=True)
            assert totals == ledger.totals(is_confirmed=False)
        assert calls_by_agent(hub.rollups()) == Counter({f"agent-{one}": 1 for one in range(4)})
        assert totals["acme"].calls + totals["other"].calls == 4
        statement += 1
    assert statement > 30


def test_killed_while_getting_coarser_no_count_is_lost_or_repeated(tmp_path: Path) -> None:
    begun = tmp_path / "begun"
    records = NodeRecords(begun / "records")
    for number in range(6):
        records.add(Call(call_id=f"c{number}", started_ms=BEGAN_MS + number * 60_000))
        with ledger_at(begun) as ledger:
            ledger.cut(records.directory, NOW)
    small = LedgerSettings(limit_bytes=900)
    statement, was_killed = 0, True
    while was_killed:
        folder = tmp_path / str(statement)
        shutil.copytree(begun, folder)

        def work(folder: Path = folder) -> None:
            with ledger_at(folder, small) as ledger:
                ledger.cut(folder / "records", NOW)

        was_killed = killed_at(statement, work)
        with ledger_at(folder, small) as ledger:
            rollups = [Rollup.FromString(body) for _, body in ledger.waiting()]
        assert sum(entry.calls.total for rollup in rollups for entry in rollup.entries) == 6
        assert was_killed or len(rollups) < 6
        statement += 1
    assert statement > 30


def test_killed_at_any_moment_every_call_is_counted_exactly_once(tmp_path: Path) -> None:
    records, hub = NodeRecords(tmp_path / "records"), HubStream(tmp_path / "hub")
    dice = random.Random(5)  # noqa: S311 - no secret

    def work() -> None:
        with ledger_at(tmp_path) as ledger:
            while True:
                ledger.cut(records.directory, NOW)
                for seq, body in ledger.waiting(3):
                    hub.store(seq, body)
                    ledger.confirm(seq)

    number = 0
    for _ in range(25):
        with child(work) as pid:
            for _ in range(dice.randint(1, 6)):
                records.add(*numbered(number, 3))
                number += 3
            deadline = time.monotonic() + dice.random() * 0.05
            while time.monotonic() < deadline:
                pass
            os.kill(pid, signal.SIGKILL)
    with ledger_at(tmp_path) as ledger:
        ledger.cut(records.directory, NOW)
        drain(ledger, hub)
    assert calls_by_agent(hub.rollups()) == Counter({f"agent-{one}": 1 for one in range(number)})


# --- the hub's answers, lost in any way -----------------------------------------------------------------------------
@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    st.lists(st.sampled_from(["call", "cut", "send", "send_lost_ack", "reopen", "fill"]), max_size=40), st.integers()
)
def test_whatever_happens_in_whatever_order_the_hub_has_every_call_once(
    tmp_path_factory: pytest.TempPathFactory, steps: list[str], name: int
) -> None:
    tmp_path = tmp_path_factory.mktemp(sha256(str(name).encode()).hexdigest()[:8])
    records, hub, number = NodeRecords(tmp_path / "records"), HubStream(tmp_path / "hub"), 0
    ledger = ledger_at(tmp_path, LedgerSettings(limit_bytes=700))
    ledger.__enter__()
    for step in steps:
        match step:
            case "call" | "fill":
                count = 1 if step == "call" else 9
                records.add(*numbered(number, count))
                number += count
            case "cut":
                ledger.cut(records.directory, NOW)
            case "send" | "send_lost_ack":
                for seq, body in ledger.waiting(2):
                    hub.store(seq, body)
                    if step == "send":
                        ledger.confirm(seq)
            case _:
                ledger.__exit__(None, None, None)
                ledger = ledger_at(tmp_path, LedgerSettings(limit_bytes=700))
                ledger.__enter__()
    ledger.cut(records.directory, NOW)
    drain(ledger, hub)
    totals = ledger.totals(is_confirmed=True)
    ledger.__exit__(None, None, None)
    assert calls_by_agent(hub.rollups()) == Counter({f"agent-{one}": 1 for one in range(number)})
    assert sum(total.calls for total in totals.values()) == number
