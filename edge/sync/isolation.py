"""Whether this node is on a side of its region that cannot decide anything. Pure; docs/partitions.md tells operators.

Theory of operation. Every server of the region is asked how it is, twice a second, through the node's own server; those
that answer are the side that this node is on. Streams decide by a majority of the servers that store, so a side that
holds no majority of them can neither take over nor replicate: its node takes no new calls. What JetStream says that it
needs is not asked: it counts servers that left the region until they are forgotten (departures.py). The answers are
counted, not the leader looked at: whoever loses a leader elects another within 4 to 9 s (raft.go), and all nodes would
be out meanwhile. A route that is up and silent brings no answers either, so nobody waits until it is given up.

A node goes out only on the word of its own server. While that one is silent (stopped, hanging, being started) nothing
is known of the region, and what held goes on; so a restart of it, or a late event loop, changes nothing.

It comes back once a majority answers and names a leader that answers, too, for a while without a break.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field

LOOK_EVERY_S = 0.5
# Servers of a region that starts find each other within seconds; before its self-test a node takes no calls anyway.
FIRST_AFTER_S = 30.0
# After a machine stood still the own server answers first; the others have by the next look.
LOST_LOOKS = 2
# A server that was started again answers before it has dialled the others.
SETTLES_S = 5.0


@dataclass(frozen=True, slots=True, kw_only=True)
class ServerWord:
    """What a server says of itself."""

    name: str
    stores: bool
    leader: str = ""


@dataclass(slots=True, kw_only=True)
class Isolation:
    """`own` is the node's server, `storing` how many store at least. A clock's times are seconds of one clock."""

    own: str
    storing: int
    isolated_after_s: float
    rejoined_after_s: float
    is_isolated: bool
    _began: float | None = None
    _own_since: float | None = None
    _had_majority: bool = False
    _lost_looks: int = 0
    _whole_looks: int = 0
    _heard: dict[str, tuple[float, ServerWord]] = field(default_factory=dict)

    def hear(self, word: ServerWord, now: float) -> None:
        """A server answered."""
        self._heard[word.name] = (now, word)

    def forget_own(self) -> None:
        """The connection to the own server ended: it may be starting again."""
        self._own_since = None
        self._heard.pop(self.own, None)

    def judge(self, now: float) -> bool:
        """Whether this node is isolated, by what was heard until now; asked every `LOOK_EVERY_S`, or later."""
        self._began = now if self._began is None else self._began
        words = self._fresh(now)
        if not any(word.name == self.own for word in words):
            self._lost_looks = 0
            return self.is_isolated
        self._own_since = now if self._own_since is None else self._own_since
        has_majority = self._is_majority(words)
        self._had_majority |= has_majority
        self._lost_looks = 0 if has_majority else self._lost_looks + 1
        self._whole_looks = self._whole_looks + 1 if has_majority and _has_leader(words) else 0
        if self.is_isolated:
            self.is_isolated = self._whole_looks * LOOK_EVERY_S <= self.rejoined_after_s
        elif self._had_majority or now - self._began >= FIRST_AFTER_S:
            self.is_isolated = self._lost_looks >= LOST_LOOKS and now - self._own_since >= SETTLES_S
        return self.is_isolated

    def heard(self, now: float) -> int:
        """How many servers that store answer."""
        return sum(word.stores for word in self._fresh(now))

    def _fresh(self, now: float) -> list[ServerWord]:
        within_s = self.isolated_after_s - (LOST_LOOKS - 1) * LOOK_EVERY_S
        return [word for at, word in self._heard.values() if now - at <= within_s]

    def _is_majority(self, words: list[ServerWord]) -> bool:
        return sum(word.stores for word in words) > self.storing // 2


def word_of(answer: bytes, region: str) -> ServerWord | None:
    """Reads an answer to STATSZ; None if it is not of a server of this region.

    Raises ValueError, LookupError, TypeError or AttributeError for what no server says.
    """
    message = json.loads(answer)
    server = message["server"]
    # The cluster and not the JetStream domain: from the fourth node on servers store nothing and have none.
    if server.get("cluster") != region:
        return None
    jetstream = message["statsz"].get("jetstream")
    meta: Mapping[str, object] = (jetstream or {}).get("meta") or {}
    return ServerWord(
        name=str(server["name"]),
        stores=jetstream is not None,
        leader=str(meta.get("leader", "")),
    )


def _has_leader(words: list[ServerWord]) -> bool:
    names = {word.name for word in words}
    return any(word.leader in names for word in words)
