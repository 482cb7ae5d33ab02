"""The small parts: alarms, ages of beats, pauses between attempts, slots."""

import json
from pathlib import Path

import pytest
import structlog
from prometheus_client import CollectorRegistry

from contract.alarms import AlarmCode
from contract.downlink_pb2 import Beat
from edge.call.slots import SlotLedger
from edge.sync.alarms import Alarms
from edge.sync.beats import BeatWatch
from edge.sync.errors import TrustedKeyError
from edge.sync.settings import SlotsSection
from edge.sync.slots import SlotWatch
from edge.sync.verification import TrustedKeys
from edge.sync.watch import Backoff


def test_an_alarm_is_logged_when_it_changes_and_shown_while_it_lasts() -> None:
    registry = CollectorRegistry()
    node_alarms = Alarms(registry)
    with structlog.testing.capture_logs() as logged:
        node_alarms.raise_(AlarmCode.CONFIG_STALE)
        node_alarms.raise_(AlarmCode.CONFIG_STALE)
        assert node_alarms.raised() == ("config_stale",)
        assert registry.get_sample_value("borough_alarm", {"code": "config_stale"}) == 1
        node_alarms.clear(AlarmCode.CONFIG_STALE)
        node_alarms.clear(AlarmCode.CONFIG_STALE)
    assert [line["event"] for line in logged] == ["alarm_raised", "alarm_cleared"]
    assert registry.get_sample_value("borough_alarm", {"code": "config_stale"}) == 0


class Clocks:
    """Two clocks that the test moves."""

    def __init__(self) -> None:
        self.wall_s, self.ticks_s = 1_800_000_000.0, 0.0

    def passes(self, seconds: float) -> None:
        self.wall_s += seconds
        self.ticks_s += seconds


@pytest.mark.parametrize("hub_is_ahead_s", [-120.0, 0.0, 120.0])
def test_the_age_of_a_beat_holds_although_clocks_differ(hub_is_ahead_s: float) -> None:
    clocks = Clocks()
    watch = BeatWatch(lambda: clocks.wall_s, lambda: clocks.ticks_s)
    for seq in (1, 2):
        sent_at_ms = round((clocks.wall_s + hub_is_ahead_s) * 1000)
        watch.hear(Beat(seq=seq, sent_at_ms=sent_at_ms).SerializeToString())
        clocks.passes(2)
    assert watch.age_s() <= 2
    clocks.passes(200)
    assert watch.age_s() >= 80


def test_an_old_beat_that_comes_again_is_still_old() -> None:
    clocks = Clocks()
    watch = BeatWatch(lambda: clocks.wall_s, lambda: clocks.ticks_s)
    beat = Beat(seq=7, sent_at_ms=round(clocks.wall_s * 1000)).SerializeToString()
    watch.hear(beat)
    clocks.passes(60)
    watch.hear(beat)
    assert watch.age_s() == pytest.approx(60)


def test_attempts_wait_twice_as_long_each_time_up_to_a_bound() -> None:
    backoff = Backoff(5.0, 12.0)
    backoff.start(100.0, 10.0)
    assert not backoff.is_due(109.0)
    due = []
    now = 110.0
    for _ in range(4):
        assert backoff.is_due(now)
        backoff.attempted(now)
        before = now
        while not backoff.is_due(now):
            now += 1
        due.append(now - before)
    assert due == [5, 10, 12, 12]
    backoff.reset()
    assert not backoff.is_due(1e9)


def test_the_peak_of_slots_is_since_it_was_told_last(tmp_path: Path) -> None:
    ledger = SlotLedger(directory=tmp_path, capacity=4)
    watch = SlotWatch(SlotsSection(directory=tmp_path, capacity=4), tmp_path / "running")
    with ledger.take(), ledger.take():
        assert watch.now().slots_used_peak == 2
    assert watch.now().slots_used_peak == 0
    assert watch.since_last().slots_used_peak == 2
    assert watch.since_last().slots_used_peak == 0


def test_refused_calls_of_all_runs_of_the_workers_are_told_once(tmp_path: Path) -> None:
    def tell(worker: str, began_at_ns: int, calls_refused: int) -> None:
        state = {"bundle": 3, "began_at_ns": began_at_ns, "calls_refused": calls_refused}
        (tmp_path / f"{worker}.json").write_text(json.dumps(state), encoding="utf-8")

    tell("calls-1", 1, 40)
    (tmp_path / "calls-9.json").write_text('{"bundle": 3}', encoding="utf-8")
    watch = SlotWatch(SlotsSection(directory=tmp_path / "slots", capacity=4), tmp_path)
    assert watch.now().refused == 0
    tell("calls-1", 1, 42)
    tell("calls-2", 2, 3)
    assert (watch.now().refused, watch.now().refused) == (5, 5)
    # Killed, and another run in its place; the other one ended, and its file is gone.
    tell("calls-1", 5, 1)
    (tmp_path / "calls-2.json").unlink()
    assert watch.since_last().refused == 6
    tell("calls-2", 2, 4)
    (tmp_path / "calls-1.json").write_text('{"bundle"', encoding="utf-8")
    assert (watch.since_last().refused, watch.since_last().refused) == (1, 0)


def test_a_key_file_that_holds_no_ed25519_key_is_named(tmp_path: Path) -> None:
    path = tmp_path / "hub.pub"
    path.write_text("-----BEGIN PUBLIC KEY-----\n", encoding="utf-8")
    with pytest.raises(TrustedKeyError, match=r"hub\.pub"):
        TrustedKeys.load([path])
