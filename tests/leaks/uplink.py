"""A node agent with its border credentials, on the very subjects that it may use: words where counts belong."""

from collections.abc import Callable

from google.protobuf.message import Message

from contract.subjects import ack, health, rollup
from contract.uplink_pb2 import Ack, Health, KnowledgeVersion, Rollup
from tests.leaks.way import HOME, NODE, Stage, Try, Way, guarded

NOW_MS = 1_795_420_000_000


def _uplink(
    subject: str, make: Callable[[str], Message | bytes], headers: Callable[[str], dict[str, str]] | None = None
) -> Try:
    """A message on a subject that is allowed."""

    async def attempt(stage: Stage, marker: str) -> None:
        made = make(marker)
        payload = made.SerializeToString() if isinstance(made, Message) else made
        await stage.border.jetstream().publish(
            subject, payload, timeout=2, headers=headers(marker) if headers else None
        )

    return attempt


def said_well() -> dict[str, Message]:
    """What the hub takes, by subject: each guarded way is one of these but for the words."""
    return {
        rollup(HOME, NODE): _counts(),
        health(HOME, NODE): Health(region=HOME, node=NODE, release="0.1.0", alarms=["disk_low"]),
        ack(HOME, NODE): Ack(region=HOME, node=NODE, document_kind="Agent", document_name="bank"),
    }


def _counts() -> Rollup:
    counts = Rollup(region=HOME, node=NODE, seq=1, cut_at_ms=NOW_MS)
    entry = counts.entries.add(
        minute=NOW_MS // 60_000, tenant="acme", agent="bank", agent_version="3", intent="balance"
    )
    entry.calls.total = entry.calls.contained = 1
    return counts


def _changed(change: Callable[[Rollup, str], object]) -> Callable[[str], Rollup]:
    def make(marker: str) -> Rollup:
        counts = _counts()
        change(counts, marker)
        return counts

    return make


def _unknown_field(marker: str) -> bytes:
    return b"\xc2\x3e" + bytes([len(marker)]) + marker.encode()


def _as_name(marker: str) -> str:
    return f"said-{marker.lower()}"


UPLINK_WAYS: tuple[Way, ...] = (
    guarded("rollup: plain text", _uplink(rollup(HOME, NODE), lambda marker: marker.encode())),
    guarded(
        "rollup: text as the tenant",
        _uplink(rollup(HOME, NODE), _changed(lambda r, m: setattr(r.entries[0], "tenant", f"I said {m}"))),
    ),
    guarded(
        "rollup: text as an escalation's reason",
        _uplink(rollup(HOME, NODE), _changed(lambda r, m: r.entries[0].calls.escalated.update({f"I said {m}": 1}))),
    ),
    guarded(
        "rollup: a name as the intent",
        _uplink(rollup(HOME, NODE), _changed(lambda r, m: setattr(r.entries[0], "intent", _as_name(m)))),
    ),
    guarded(
        "rollup: a name as the version",
        _uplink(rollup(HOME, NODE), _changed(lambda r, m: setattr(r.entries[0], "agent_version", _as_name(m)))),
    ),
    guarded(
        "rollup: a number as the intent",
        _uplink(
            rollup(HOME, NODE), _changed(lambda r, m: setattr(r.entries[0], "intent", f"{_as_name(m)}-9876543210"))
        ),
    ),
    guarded(
        "rollup: an unknown field",
        _uplink(rollup(HOME, NODE), lambda m: _counts().SerializeToString() + _unknown_field(m)),
    ),
    guarded(
        "rollup: bytes that a parser skips",
        _uplink(
            rollup(HOME, NODE), lambda m: Rollup(node=_as_name(m)).SerializeToString() + _counts().SerializeToString()
        ),
    ),
    guarded("rollup: text in a header", _uplink(rollup(HOME, NODE), lambda _: _counts(), lambda m: {"X-Words": m})),
    guarded(
        "rollup: text as the message id",
        _uplink(rollup(HOME, NODE), lambda _: _counts(), lambda m: {"Nats-Msg-Id": f"I said {m}"}),
    ),
    guarded(
        "rollup: a name as the message id",
        _uplink(rollup(HOME, NODE), lambda _: _counts(), lambda m: {"Nats-Msg-Id": _as_name(m)}),
    ),
    guarded(
        "rollup: in another node's name",
        _uplink(rollup(HOME, NODE), lambda m: Rollup(region=HOME, node=_as_name(m)[:32])),
    ),
    guarded(
        "rollup: letters as counts",
        _uplink(rollup(HOME, NODE), _changed(lambda r, m: r.entries[0].turns.confidence.extend(m.encode()))),
    ),
    guarded(
        "health: text as an alarm",
        _uplink(health(HOME, NODE), lambda m: Health(region=HOME, node=NODE, alarms=[f"I said {m}"])),
    ),
    guarded(
        "health: text as the release", _uplink(health(HOME, NODE), lambda m: Health(region=HOME, node=NODE, release=m))
    ),
    guarded(
        "health: a name as an alarm",
        _uplink(health(HOME, NODE), lambda m: Health(region=HOME, node=NODE, alarms=[_as_name(m)])),
    ),
    guarded(
        "health: a name as the release",
        _uplink(health(HOME, NODE), lambda m: Health(region=HOME, node=NODE, release=_as_name(m))),
    ),
    guarded(
        "health: a name as a tenant",
        _uplink(
            health(HOME, NODE),
            lambda m: Health(region=HOME, node=NODE, knowledge=[KnowledgeVersion(tenant=_as_name(m))]),
        ),
    ),
    guarded(
        "ack: a name as a document's name",
        _uplink(
            ack(HOME, NODE),
            lambda m: Ack(region=HOME, node=NODE, document_kind="Agent", document_name=_as_name(m)),
        ),
    ),
    guarded(
        "ack: text as a document's name",
        _uplink(ack(HOME, NODE), lambda m: Ack(region=HOME, node=NODE, document_name=f"I said {m}")),
    ),
)
