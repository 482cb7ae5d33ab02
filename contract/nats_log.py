"""What a line of nats-server's log says about somebody who was refused. Pure; made for 2.15.

A refusal never holds the subject that was tried: whoever leaks may write anything there.
"""

import re
from dataclasses import dataclass
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


@dataclass(frozen=True, slots=True, kw_only=True)
class Refusal:
    """One refused attempt. `connection` is the server's name of it: cid a client, lid a leaf link, rid a route."""

    kind: RefusalKind
    connection: str


_LINE = re.compile(
    r"^\[\d+\] \S+ \S+ \[(?:ERR|WRN|INF)\] (?:\[?\S+\]?:\d+) - (?P<connection>[a-z]+:\d+) - (?P<what>.*)$"
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
