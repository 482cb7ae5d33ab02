"""How far a replica is behind its database. Pure: moments in, seconds out."""

from dataclasses import dataclass


@dataclass(slots=True)
class ReplicaLag:
    """Of one database. All moments are seconds of the node's wall clock; Litestream's stamps are of the same clock.

    A look finds that the database was written since the look before, which was at `since`, and last at `at`.
    """

    _oldest: float | None = None
    _newest: float | None = None

    def changed(self, *, since: float, at: float) -> None:
        """The database was written between two looks; the replica may lack it since the earlier one."""
        if self._oldest is None:
            self._oldest = since
        self._newest = at

    def replicated_through(self, moment: float) -> None:
        """The replica has all that was written before this moment."""
        if self._newest is not None and moment >= self._newest:
            self._oldest = self._newest = None
        elif self._oldest is not None and moment > self._oldest:
            self._oldest = moment

    def seconds(self, now: float) -> float:
        """Age of the oldest write that the replica lacks; 0 when it has all."""
        return 0.0 if self._oldest is None else max(0.0, now - self._oldest)
