"""Why somebody was turned away at the border, and what a line of nats-server's log says about it. Pure; made for 2.15.

A refusal never holds the subject that was tried: whoever leaks may write anything there.
"""

import re
from collections import Counter
from dataclasses import dataclass, field
from enum import StrEnum


class RefusalKind(StrEnum):
    """Why somebody was turned away."""

    PUBLISH = "publish"  # a subject that is not on the list
    SUBSCRIBE = "subscribe"
    AUTHENTICATION = "authentication"  # a certificate that is no user here: revoked, or of another region
    CERTIFICATE = "certificate"  # none, or one that is expired or of another authority
    PLAINTEXT = "plaintext"  # no TLS
    PAYLOAD = "payload"  # larger than any message of ours
    PROTOCOL = "protocol"  # a subject longer than any of ours, or no NATS at all
    # No server refuses these; whoever watches what passes does.
    INTERNAL = "internal"  # a subject of the servers' own, with more in it than servers say
    ANSWER = "answer"  # wants its answer where no node of ours listens
    IDENTITY = "identity"  # a link whose server is not the node of its certificate, or two links of one certificate
    STREAM = "stream"  # a stream of the region that is none of ours; it is deleted


@dataclass(frozen=True, slots=True, kw_only=True)
class Refusal:
    """One refused attempt. `connection` is the server's name of it: cid a client, lid a leaf link, rid a route."""

    kind: RefusalKind
    connection: str


_LINE = re.compile(
    r"^\[\d+\] \S+ \S+ \[(?:ERR|WRN|INF|DBG)\] (?:\[?\S+\]?:\d+) - (?P<connection>[a-z]+:\d+) - (?P<what>.*)$"
)
_KINDS: tuple[tuple[re.Pattern[str], RefusalKind], ...] = (
    (re.compile(r"(?:.* - )?Publish Violation "), RefusalKind.PUBLISH),
    (re.compile(r"(?:.* - )?Subscription Violation "), RefusalKind.SUBSCRIBE),
    (re.compile(r"(?:.* - )?authentication error"), RefusalKind.AUTHENTICATION),
    (
        re.compile(r"(?:.* - )?(?:maximum payload exceeded|Maximum Payload Violation)", re.IGNORECASE),
        RefusalKind.PAYLOAD,
    ),
    (re.compile(r"(?:.* - )?(?:maximum control line exceeded|.*parser ERROR)", re.IGNORECASE), RefusalKind.PROTOCOL),
    (re.compile(r"TLS (?:\w+ )*handshake error: tls: first record does not look"), RefusalKind.PLAINTEXT),
    # Ours end with "EOF" or a reset: somebody who only looked whether the port is open.
    (re.compile(r"TLS (?:\w+ )*handshake error: (?:tls|x509|remote error)"), RefusalKind.CERTIFICATE),
)


def refusal_of(line: str) -> Refusal | None:
    """The refusal that a line of the log reports, if it does."""
    match = _LINE.match(line)
    if match is None:
        return None
    for pattern, kind in _KINDS:
        if pattern.match(match["what"]):
            return Refusal(kind=kind, connection=match["connection"])
    return None


@dataclass(slots=True)
class RefusalTally:
    """Tells of refusals once an interval: who tries ten thousand times a second must not fill the log of who counts.

    The first of a kind is told at once.
    """

    interval_s: float = 60.0
    _told_at: dict[RefusalKind, float] = field(default_factory=dict)
    _waiting: Counter[RefusalKind] = field(default_factory=Counter)

    def add(self, kind: RefusalKind, now: float) -> int:
        """Count one; how many are to be told of now, 0 while others were told of a short time ago."""
        self._waiting[kind] += 1
        return self._tell(kind, now)

    def due(self, now: float) -> dict[RefusalKind, int]:
        """Those whose interval is over, and how many came in it."""
        return {kind: count for kind in list(self._waiting) if (count := self._tell(kind, now))}

    def _tell(self, kind: RefusalKind, now: float) -> int:
        if now - self._told_at.get(kind, -self.interval_s) < self.interval_s:
            return 0
        self._told_at[kind] = now
        return self._waiting.pop(kind)
