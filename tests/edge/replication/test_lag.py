"""How far a replica is behind."""

from edge.replication.lag import ReplicaLag


def test_nothing_written_is_no_lag() -> None:
    lag = ReplicaLag()
    lag.replicated_through(5.0)
    assert lag.seconds(100.0) == 0.0


def test_lag_counts_from_before_the_oldest_write_that_is_missing() -> None:
    lag = ReplicaLag()
    lag.changed(since=10.0, at=11.0)
    lag.changed(since=11.0, at=12.0)
    assert lag.seconds(20.0) == 10.0
    lag.replicated_through(11.5)
    assert lag.seconds(20.0) == 8.5
    lag.replicated_through(12.0)
    assert lag.seconds(20.0) == 0.0


def test_an_older_stamp_changes_nothing() -> None:
    lag = ReplicaLag()
    lag.changed(since=10.0, at=11.0)
    lag.replicated_through(9.0)
    assert lag.seconds(12.0) == 2.0
