"""What is decided without a hub: tokens, addresses, requests, sources that failed too often."""

import hashlib
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from controlplane.enrolment.attempts import SOURCES_KEPT, FailedAttempts, source_of
from controlplane.enrolment.errors import (
    NodeAddressError,
    TokenExpiredError,
    TokenForeignError,
    TokenRefusedError,
    TokenRevokedError,
    TokenStolenError,
    TokenUnknownError,
    TokenUsedError,
)
from controlplane.enrolment.requests import check_address
from controlplane.enrolment.tokens import Attempt, Token, TokenState, judge, mint, read_token

FINGERPRINT = "ab" * 16
NOW_MS = 1_800_000_000_000
TOKEN_ID, TEXT, DIGEST = mint(FINGERPRINT)
OPEN = Token(
    id=TOKEN_ID,
    secret_sha256=DIGEST,
    region="in-south",
    node="",
    replaces=False,
    created_at_ms=NOW_MS - 1_000,
    created_by="root",
    expires_at_ms=NOW_MS + 1_000,
)
USED = replace(OPEN, used_at_ms=NOW_MS - 10, used_by="south-1", used_from="10.0.0.9")
ATTEMPT = Attempt(region="in-south", node="south-1", source="10.0.0.9")


def test_a_token_is_read_as_it_was_written() -> None:
    assert (TEXT.split(".")[0], len(TEXT)) == ("bo1", 93)
    presented = read_token(f" {TEXT}\n")
    assert (presented.id, presented.fingerprint) == (TOKEN_ID, FINGERPRINT)
    assert hashlib.sha256(presented.secret.encode()).digest() == DIGEST
    assert judge(OPEN, presented, ATTEMPT, NOW_MS) == OPEN


@pytest.mark.parametrize(
    ("token", "attempt", "error"),
    [
        (None, ATTEMPT, TokenUnknownError),
        (replace(OPEN, secret_sha256=bytes(32)), ATTEMPT, TokenUnknownError),
        # Who does not know the secret learns nothing else.
        (replace(USED, secret_sha256=bytes(32)), ATTEMPT, TokenUnknownError),
        (replace(OPEN, expires_at_ms=NOW_MS), ATTEMPT, TokenExpiredError),
        (replace(OPEN, revoked_at_ms=NOW_MS - 1), ATTEMPT, TokenRevokedError),
        (USED, ATTEMPT, TokenUsedError),
        (replace(USED, expires_at_ms=NOW_MS - 1), ATTEMPT, TokenUsedError),
        (USED, replace(ATTEMPT, source="10.0.0.8"), TokenStolenError),
        (USED, replace(ATTEMPT, node="south-2"), TokenStolenError),
        (OPEN, replace(ATTEMPT, region="eu-central"), TokenForeignError),
        (replace(OPEN, node="south-2"), ATTEMPT, TokenForeignError),
    ],
)
def test_what_is_wrong_with_a_token(token: Token | None, attempt: Attempt, error: type[TokenRefusedError]) -> None:
    with pytest.raises(error):
        judge(token, read_token(TEXT), attempt, NOW_MS)


@given(st.text())
def test_any_text_is_a_token_or_unknown(text: str) -> None:
    with pytest.raises(TokenUnknownError):
        read_token(text)


def test_two_tokens_never_share_anything() -> None:
    minted = [mint(FINGERPRINT) for _ in range(1_000)]
    assert len({token_id for token_id, _, _ in minted}) == len({digest for _, _, digest in minted}) == 1_000


def test_a_token_has_one_state_at_a_time() -> None:
    assert OPEN.state(NOW_MS) is TokenState.OPEN
    assert OPEN.state(NOW_MS + 1_000) is TokenState.EXPIRED
    assert replace(OPEN, revoked_at_ms=1).state(NOW_MS + 1_000) is TokenState.REVOKED
    assert replace(USED, revoked_at_ms=1).state(NOW_MS) is TokenState.USED


@pytest.mark.parametrize(
    "address", ["10.77.0.11", "192.168.1.4", "fd00::11", "2001:db8::1", "node-1.in-south.example.org"]
)
def test_addresses_that_siblings_reach(address: str) -> None:
    check_address(address)


@pytest.mark.parametrize(
    "address",
    [
        *("", "localhost", "127.0.0.1", "::1", "0.0.0.0", "::", "fe80::1", "169.254.1.1", "239.0.0.1"),  # noqa: S104
        *("10.1.1", "999.1.1.1", "10.1.1.1:4222", "a b", "Node-1", "-a", "a..b", "a" * 254, 'a","b', "a\n"),
    ],
)
def test_addresses_that_nobody_reaches(address: str) -> None:
    with pytest.raises(NodeAddressError):
        check_address(address)


def test_a_source_is_barred_for_a_while() -> None:
    """From the failure that is one too many, until the oldest of them is forgotten."""
    attempts = FailedAttempts(allowed=3, within_s=600)
    assert [attempts.add("a", now) for now in (0.0, 100.0, 200.0, 201.0)] == [False, False, True, False]
    assert attempts.is_barred("a", 300.0)
    assert not attempts.is_barred("b", 300.0)
    assert attempts.is_barred("a", 650.0)
    assert not attempts.is_barred("a", 750.0)


def test_many_sources_take_bounded_room() -> None:
    attempts = FailedAttempts(allowed=3, within_s=600)
    for index in range(SOURCES_KEPT + 10):
        attempts.add(str(index), 0.0)
    assert len(attempts._failures) == SOURCES_KEPT


@pytest.mark.parametrize(
    ("peer", "source"),
    [
        ("ipv4:10.0.0.9:51000", "10.0.0.9"),
        ("ipv6:%5B::ffff:10.0.0.9%5D:51000", "10.0.0.9"),
        ("ipv6:[2001:db8:1:2:3::4]:51000", "2001:db8:1:2::/64"),
        ("ipv6:%5B2001:db8:1:2:9::4%5D:51000", "2001:db8:1:2::/64"),
        ("ipv6:[fe80::1%25eth0]:51000", "fe80::/64"),
        ("unix:/run/x.sock", "unix"),
        ("", "unknown"),
    ],
)
def test_where_a_request_comes_from(peer: str, source: str) -> None:
    assert source_of(peer) == source
