"""kill -9 of all processes of a node, several times on the same disk (bench/durability.py cuts the power 50 times)."""

from pathlib import Path

from bench.durability import PowerCuts


async def test_nothing_acknowledged_is_lost_on_disk_and_at_most_a_second_in_the_replica(tmp_path: Path) -> None:
    report = await PowerCuts(directory=tmp_path, seed=11).run(2)
    assert sum(cut.acknowledged for cut in report.rounds) > 100
    assert [cut.lost_on_disk for cut in report.rounds] == [0, 0]
    assert all(cut.is_disk_chain_whole and cut.is_restored_chain_whole for cut in report.rounds)
    assert max(cut.rpo_s for cut in report.rounds) <= 1.0
