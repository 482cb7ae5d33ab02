"""Lines of nats-server 2.15.1, as it wrote them, and what they say."""

import pytest

from contract.nats_log import Refusal, RefusalKind, refusal_of

PREFIX = "[14977] 2026/11/23 08:03:42.651358"


@pytest.mark.parametrize(
    ("line", "kind"),
    [
        ('lid:12 - Publish Violation on "up.x" - Check other side configuration', "publish"),
        ('cid:8 - "v2.16.0:python3" - "BORDER/user:borough://a" - Publish Violation - Subject "x"', "publish"),
        ('cid:8 - "v2.16.0:python3" - Subscription Violation - Subject ">", SID 1', "subscribe"),
        ("cid:8 - authentication error", "authentication"),
        ("lid:8 - authentication error", "authentication"),
        ("cid:8 - TLS handshake error: tls: client didn't provide a certificate", "certificate"),
        ("lid:8 - TLS leafnode handshake error: tls: failed to verify certificate: x509: x", "certificate"),
        ("cid:8 - TLS handshake error: tls: first record does not look like a TLS handshake", "plaintext"),
        ("cid:8 - maximum payload exceeded: 9000000 vs 8388608", "payload"),
    ],
)
@pytest.mark.parametrize("address", ["127.0.0.1:37062", "[::1]:37062"])
def test_a_refusal_is_read(line: str, kind: str, address: str) -> None:
    """Kind and connection; never the subject."""
    refusal = Refusal(kind=RefusalKind(kind), connection=line.split(" ", 1)[0])
    assert refusal_of(f"{PREFIX} [ERR] {address} - {line}") == refusal


@pytest.mark.parametrize(
    "line",
    [
        "[INF] Server is ready",
        "[ERR] 127.0.0.1:36982 - cid:7 - TLS handshake error: EOF",
        "[ERR] 127.0.0.1:36982 - cid:7 - TLS handshake error: read tcp x->y: connection reset by peer",
        "[INF] 127.0.0.1:57456 - lid:7 - Leafnode connection closed: Read Error",
        "",
        "Publish Violation",
    ],
)
def test_other_lines_are_not(line: str) -> None:
    """A port that was only looked at is no attempt."""
    assert refusal_of(f"{PREFIX} {line}") is None
