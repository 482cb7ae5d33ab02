"""The ledgers of a region, in any order of calls, cuts, outages and deaths: no caller is a repeat too often, and none
is missed while the region can be reached."""

import tempfile
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import apsw
from hypothesis import given, settings
from hypothesis import strategies as st

from edge.records.database import migrate
from edge.rollups.ledger import RollupLedger, _migrations
from edge.rollups.recent import Sighting, by_subject, note
from tests.edge.rollups.node_records import BEGAN_MS, Call, NodeRecords

NOW = BEGAN_MS / 1000 + 3600
NODES = ("node-1", "node-2", "node-3")
CUTS = ("heard", "away", "answer lost", "died")


@dataclass
class Bucket:
    """Plays the region's bucket (edge/sync/recent_callers.py), which is tested on real servers beside it."""

    values: dict[tuple[str, str], bytes] = field(default_factory=dict)

    def tell(self, sightings: Sequence[Sighting]) -> dict[str, bool]:
        repeated: dict[str, bool] = {}
        for key, group in by_subject(sightings).items():
            self.values[key], told = note(self.values.get(key, b""), group)
            repeated |= told
        return repeated


def cut(ledger: RollupLedger, records: Path, bucket: Bucket, how: str) -> None:
    """What `RollupShipping.cut_once` does."""
    while True:
        batch = ledger.read(records, NOW)
        told = bucket.tell(batch.sightings) if how != "away" else {}
        if how == "died":
            return
        ledger.store(batch, NOW, told=told if how == "heard" else {})
        if not batch.holds_calls:
            return


@settings(max_examples=60, deadline=None)
@given(
    steps=st.lists(
        st.tuples(st.sampled_from(NODES), st.one_of(st.integers(0, 5), st.sampled_from(CUTS))), min_size=3, max_size=25
    )
)
def test_of_a_callers_calls_within_a_day_at_most_all_but_one_are_repeats(steps: list[tuple[str, int | str]]) -> None:
    bucket, calls = Bucket(), 0
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        records = {node: NodeRecords(root / node) for node in NODES}
        ledgers = {node: RollupLedger(root / f"{node}.db", "in-south", node) for node in NODES}
        for node, step in [*steps, *((node, "heard") for node in NODES)]:
            with ledgers[node] as ledger:
                if isinstance(step, int):
                    calls += 1
                    records[node].add(Call(call_id=f"call-{calls}", started_ms=BEGAN_MS + step * 1000))
                else:
                    cut(ledger, records[node].directory, bucket, step)
        repeated = counted = 0
        for ledger in ledgers.values():
            with ledger:
                for totals in ledger.totals(is_confirmed=False).values():
                    repeated, counted = repeated + totals.repeated, counted + totals.calls
    assert counted == calls
    assert repeated <= max(0, calls - 1)
    if not {step for _, step in steps} & {"away", "answer lost"}:
        assert repeated == max(0, calls - 1)


def test_a_ledger_of_the_release_before_tells_of_the_last_day(tmp_path: Path) -> None:
    path = tmp_path / "rollups.db"
    connection = apsw.Connection(str(path))
    migrate(connection, _migrations()[:1])
    connection.execute("INSERT INTO owner VALUES ('in-south', 'node-1', 7)")
    connection.execute("INSERT INTO watermarks VALUES ('acme', 2)")
    connection.close()
    records = NodeRecords(tmp_path / "records")
    records.add(Call(call_id="old", started_ms=BEGAN_MS - 30 * 3_600_000), Call(call_id="counted"), Call(call_id="new"))
    with RollupLedger(path, "in-south", "node-1") as ledger:
        batch = ledger.read(records.directory, NOW)
        assert [sighting.call_id for sighting in batch.sightings] == ["counted", "new"]
        ledger.store(batch, NOW, told={"counted": False, "new": True})
        assert ledger.read(records.directory, NOW).sightings == []
        assert ledger.totals(is_confirmed=False)["acme"].calls == 1
