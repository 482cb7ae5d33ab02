"""Only counts, versions and names go up: everything else is found, at any depth."""

from collections.abc import Callable

import pytest
from google.protobuf.message import Message
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from contract.alarms import AlarmCode
from contract.documents import TenantDocument
from contract.names import is_name
from contract.uplink_guard import MAX_COUNT, check, check_headers, check_ping, check_sender, read
from contract.uplink_pb2 import REFUSAL_DOCUMENT, SUBJECT_BUNDLE, Ack, Entry, Health, KnowledgeVersion, Rollup, Sketch

NOW_MS = 1_795_420_000_000
TEXT = "My card number is 4111 1111 1111 1111"


def _rollup() -> Rollup:
    rollup = Rollup(region="in-south", node="in-south-1", seq=7, cut_at_ms=NOW_MS)
    entry = rollup.entries.add(
        minute=NOW_MS // 60_000, tenant="acme", agent="bank", agent_version="12", intent="balance_of-card"
    )
    entry.calls.total = 3
    entry.calls.escalated["asked_for_human"] = 1
    entry.calls.abandoned_by_turn[2] = 1
    entry.calls.first_audio_ms.CopyFrom(Sketch(first_bin=500, counts=[1, 2], sum=900.5, minimum=1, maximum=700))
    entry.turns.total = 9
    entry.turns.confidence.extend([0] * 9 + [9])
    rollup.capacity.slots = 28
    return rollup


def _health() -> Health:
    health = Health(region="in-south", node="in-south-1", at_ms=NOW_MS, release="0.1.0", alarms=["disk_low"])
    health.knowledge.add(tenant="acme", version=4, created_at_ms=NOW_MS, items=80_000)
    health.config_beat_age_ms = 0xFFFF_FFFF
    return health


def _ack() -> Ack:
    return Ack(
        region="in-south",
        node="in-south-1",
        subject=SUBJECT_BUNDLE,
        version=3,
        refusal=REFUSAL_DOCUMENT,
        document_kind="Agent",
        at_ms=NOW_MS,
    )


@pytest.mark.parametrize("message", [_rollup(), _health(), _ack()])
def test_what_nodes_really_send_is_accepted(message: Message) -> None:
    """As object and as bytes."""
    assert check(message) == []
    read_back, problems = read(type(message), message.SerializeToString())
    assert (read_back, problems) == (message, [])
    assert check_sender(message, "in-south", "in-south-1") == []


def _entry(change: Callable[[Entry], object]) -> Rollup:
    rollup = _rollup()
    change(rollup.entries[0])
    return rollup


def _unknown_field(text: str) -> bytes:
    """Field 1000, length-delimited, as a newer or forged sender would write it."""
    return b"\xc2\x3e" + bytes([len(text)]) + text.encode()


def _with_unknown_inside() -> Rollup:
    sketch = Sketch.FromString(Sketch(sum=1).SerializeToString() + _unknown_field(TEXT))
    return _entry(lambda entry: entry.turns.response_ms.CopyFrom(sketch))


def _many_alarms() -> Health:
    health = _health()
    health.alarms.extend(["disk_low"] * 100)
    return health


SMUGGLED: dict[str, Message] = {
    "text as tenant": _entry(lambda entry: setattr(entry, "tenant", TEXT)),
    "text as intent": _entry(lambda entry: setattr(entry, "intent", "my card is lost")),
    "number as intent": _entry(lambda entry: setattr(entry, "intent", "n919876543210")),
    "number as version": _entry(lambda entry: setattr(entry, "agent_version", "91.98765.43210")),
    "text as reason": _entry(lambda entry: entry.calls.escalated.update({TEXT: 1})),
    "number as reason": _entry(lambda entry: entry.calls.escalated.update({"n919876543210": 1})),
    "number as turn": _entry(lambda entry: entry.calls.abandoned_by_turn.update({4_111_111_111: 1})),
    "number as count": _entry(lambda entry: setattr(entry.calls, "total", 919_876_543_210)),
    "number as reason's count": _entry(lambda entry: entry.calls.escalated.update({"slow": 919_876_543_210})),
    "not a number as sum": _entry(lambda entry: setattr(entry.turns.response_ms, "sum", float("nan"))),
    "number as maximum": _entry(lambda entry: setattr(entry.turns.response_ms, "maximum", 919_876_543_210.0)),
    "text as confidence": _entry(lambda entry: entry.turns.confidence.extend(TEXT.encode())),
    "text as bins": _entry(lambda entry: entry.turns.response_ms.counts.extend(TEXT.encode() * 100)),
    "number as first bin": _entry(lambda entry: setattr(entry.turns.response_ms, "first_bin", 1_987_654_321)),
    "number as minute": _entry(lambda entry: setattr(entry, "minute", 919_876_543_210)),
    "number as time": Rollup(region="in-south", node="in-south-1", cut_at_ms=919_876_543_210),
    "text as node": Rollup(region="in-south", node=TEXT),
    "no node": Rollup(region="in-south"),
    "unknown field": Rollup.FromString(_rollup().SerializeToString() + _unknown_field(TEXT)),
    "unknown field inside": _with_unknown_inside(),
    "text as alarm": Health(region="in-south", node="in-south-1", alarms=[TEXT]),
    "many alarms": _many_alarms(),
    "words as alarm": Health(region="in-south", node="in-south-1", alarms=["my-card-was-stolen"]),
    "words as release": Health(region="in-south", node="in-south-1", release="i-live-at-baker-street"),
    "words in a release": Health(region="in-south", node="in-south-1", release="1.0bakerstreet"),
    "words as version": _entry(lambda entry: setattr(entry, "agent_version", "jane-smith")),
    "text as release": Health(region="in-south", node="in-south-1", release=TEXT),
    "text as knowledge": Health(region="in-south", node="in-south-1", knowledge=[KnowledgeVersion(tenant=TEXT)]),
    "text as document": Ack(region="in-south", node="in-south-1", document_name=TEXT),
    "text as kind": Ack(region="in-south", node="in-south-1", document_kind=TEXT),
    "unknown refusal": Ack(region="in-south", node="in-south-1", refusal=1_987_654_321),  # type: ignore[arg-type]
}


@pytest.mark.parametrize("name", SMUGGLED)
def test_what_does_not_belong_is_found(name: str) -> None:
    """By the object and by the bytes; and the problem does not repeat it."""
    message = SMUGGLED[name]
    problems = check(message)
    assert problems
    assert read(type(message), message.SerializeToString())[1]
    assert all(TEXT not in problem and "98765" not in problem for problem in problems)


def test_bytes_that_a_parser_skips_are_found() -> None:
    """The first of two values of a field is dropped by every parser, and stays in the stream."""
    hidden = Rollup(region="in-south", node="hidden-text").SerializeToString() + _rollup().SerializeToString()
    assert check(Rollup.FromString(hidden)) == []
    assert read(Rollup, hidden)[1] == ["holds bytes that its fields do not account for"]


@given(st.binary(max_size=200))
def test_arbitrary_bytes_never_pass(payload: bytes) -> None:
    """Not a crash either; only what names a region and node can pass at all."""
    message, problems = read(Rollup, payload)
    assert problems or (message.region and message.node)


@given(st.text(min_size=1, max_size=40))
def test_no_text_passes_as_an_intent_unless_it_is_a_name(text: str) -> None:
    """Whatever the text is."""
    passes = check(_entry(lambda entry: setattr(entry, "intent", text))) == []
    is_plain = text.isascii() and text[0].isalpha() and text.replace("-", "").replace("_", "").isalnum()
    assert not passes or (is_plain and text == text.lower())


def test_a_count_as_large_as_a_month_of_calls_passes() -> None:
    """The bound is far above what a node can do."""
    assert check(_entry(lambda entry: setattr(entry.calls, "total", MAX_COUNT))) == []


def test_headers_are_refused_but_for_the_message_id() -> None:
    """A header carries text as well as any field."""
    assert check_headers(None) == []
    assert check_headers({"Nats-Msg-Id": "42", "Nats-Request-Info": "{}"}, "42") == []
    assert check_headers({"X-Note": TEXT}) == ["has a header that is none of ours"]
    assert check_headers({"Nats-Msg-Id": "my-name-is-jane"}, "42") == ["the message id is none of ours"]
    assert check_headers({"Nats-Msg-Id": "42"}) == ["the message id is none of ours"]


def _names_a_tenant(name: str) -> bool:
    document = {"apiVersion": "borough/v1", "kind": "Tenant", "metadata": {"name": name}, "spec": {"title": "Shop"}}
    try:
        TenantDocument.model_validate(document)
    except ValidationError:
        return False
    return True


@pytest.mark.parametrize("name", ["acme", "a1", "shop-123456", "shop-1234567", "n919876543210", "Shop", "jane doe", ""])
def test_what_documents_may_name_is_what_the_border_lets_pass(name: str) -> None:
    """A tenant whose name only one of them takes would silence every node that serves it."""
    health = _health()
    health.knowledge[0].tenant = name or "-"
    assert (check(health) == []) == _names_a_tenant(name) == is_name(name)


def test_every_alarm_and_every_form_of_a_release_passes() -> None:
    """A health message that the guard does not let pass makes a node look silent."""
    for release in ("0.1.0", "12.3", "1.0.0rc1", "2.0.0.post1", "1.4.0.dev12", ""):
        health = _health()
        health.release = release
        health.alarms[:] = list(AlarmCode)
        assert check(health) == []


def test_a_message_must_name_its_sender() -> None:
    """A node cannot count for another."""
    assert check_sender(_rollup(), "in-south", "in-south-2") == ["node is not the sender's"]
    assert check_sender(_rollup(), "eu-central", "in-south-1") == ["region is not the sender's"]


def test_a_ping_is_empty() -> None:
    """Neither payload nor header of its own."""
    assert check_ping(b"", None) == []
    assert check_ping(b"words", None)
    assert check_ping(b"", {"X-Note": TEXT})
