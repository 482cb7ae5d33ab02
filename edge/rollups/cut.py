"""Ended calls and their turns become entries: counts and sketches by minute, tenant, agent, version and intent. Pure.

Nothing that a caller or agent said is known here. Strings that come from records are names or are counted as OTHER:
an intent that names a slot or a tool loses that name, and of an agent's version only the number of the hub's bundle
stays, because digits of a digest could be anybody's number.
"""

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from contract.builtin_names import CONVERSATION_INTENTS, OTHER, SLOT_INTENT, TOOL_INTENT
from contract.names import MAX_DIGITS, is_name
from contract.rollups import EntryKey
from contract.sketch import CONFIDENCE_BINS, sketch_of
from contract.uplink_pb2 import Calls, Entry, Turns

MINUTE_MS = 60_000
# Callers who hang up later than this are counted with those who hang up here.
LAST_TURN_COUNTED = 50
# A call that no bundle of the hub answered.
NO_BUNDLE = "0"
_BUNDLE_VERSION = re.compile(rf"(\d{{1,{MAX_DIGITS}}})(-.*)?")
_SKETCHED = (
    "response_ms",
    "pause_seen_ms",
    "recognise_queue_ms",
    "recognise_compute_ms",
    "understand_ms",
    "audio_ready_ms",
)


@dataclass(frozen=True, slots=True, kw_only=True)
class CountedTurn:
    """What is counted of a turn; `latencies_ms` by the names of uplink.Turns, without stages that did not run."""

    seq: int
    began_at_ms: int
    intent: str | None
    confidence: float | None
    was_interrupted: bool
    is_silent: bool
    latencies_ms: Mapping[str, int]


@dataclass(frozen=True, slots=True, kw_only=True)
class EndedCall:
    """What is counted of a call. `is_repeated`: the same subject had called the tenant within 24 h before."""

    tenant: str
    agent: str
    agent_version: str
    ended_at_ms: int
    duration_ms: int
    outcome: str | None
    reason: str | None
    first_audio_ms: int | None
    is_repeated: bool
    turns: Sequence[CountedTurn]


@dataclass(slots=True)
class _Tally:
    calls: Calls = field(default_factory=Calls)
    turns: Turns = field(default_factory=Turns)
    values: dict[str, list[int]] = field(default_factory=dict)

    def note(self, name: str, value: int | None) -> None:
        if value is not None:
            self.values.setdefault(name, []).append(value)


def count(calls: Iterable[EndedCall]) -> list[Entry]:
    """All calls and their turns as entries, in the order of their keys."""
    tallies: dict[EntryKey, _Tally] = {}
    for call in calls:
        key = _key(call, call.ended_at_ms, _intent_of(call))
        _count_call(tallies.setdefault(key, _Tally()), call)
        for turn in call.turns:
            key = _key(call, turn.began_at_ms, counted_intent(turn.intent))
            _count_turn(tallies.setdefault(key, _Tally()), turn)
    return [_entry(key, tallies[key]) for key in sorted(tallies)]


def counted_intent(intent: str | None) -> str:
    """The name under which a turn's intent is counted: one of documents or of the release, empty for none."""
    if not intent:
        return ""
    kind = intent.partition(":")[0]
    return kind if kind in (SLOT_INTENT, TOOL_INTENT) else _name(intent)


def _key(call: EndedCall, at_ms: int, intent: str) -> EntryKey:
    return EntryKey(
        minute=at_ms // MINUTE_MS,
        tenant=_name(call.tenant),
        agent=_name(call.agent),
        agent_version=_bundle_version(call.agent_version),
        intent=intent,
    )


def _count_call(tally: _Tally, call: EndedCall) -> None:
    counts = tally.calls
    counts.total += 1
    counts.repeated += call.is_repeated
    tally.note("first_audio_ms", call.first_audio_ms)
    tally.note("duration_ms", call.duration_ms)
    match call.outcome:
        case "contained":
            counts.contained += 1
        case "escalated":
            counts.escalated[_name(call.reason or "")] += 1
        case "abandoned":
            counts.abandoned += 1
            last = max((turn.seq for turn in call.turns), default=0)
            counts.abandoned_by_turn[min(last, LAST_TURN_COUNTED)] += 1
        case _:
            counts.failed += 1


def _count_turn(tally: _Tally, turn: CountedTurn) -> None:
    counts = tally.turns
    counts.total += 1
    counts.interrupted += turn.was_interrupted
    counts.silent += turn.is_silent
    if turn.confidence is not None:
        if not counts.confidence:
            counts.confidence.extend([0] * CONFIDENCE_BINS)
        counts.confidence[min(max(int(turn.confidence * CONFIDENCE_BINS), 0), CONFIDENCE_BINS - 1)] += 1
    for name in _SKETCHED:
        tally.note(name, turn.latencies_ms.get(name))


def _entry(key: EntryKey, tally: _Tally) -> Entry:
    for name in ("first_audio_ms", "duration_ms"):
        if name in tally.values:
            getattr(tally.calls, name).CopyFrom(sketch_of(tally.values[name]))
    for name in _SKETCHED:
        if name in tally.values:
            getattr(tally.turns, name).CopyFrom(sketch_of(tally.values[name]))
    entry = Entry(
        minute=key.minute, tenant=key.tenant, agent=key.agent, agent_version=key.agent_version, intent=key.intent
    )
    if tally.calls.total:
        entry.calls.CopyFrom(tally.calls)
    if tally.turns.total:
        entry.turns.CopyFrom(tally.turns)
    return entry


def _intent_of(call: EndedCall) -> str:
    """The last intent that was acted on; empty if the call was about itself only."""
    intents = (counted_intent(turn.intent) for turn in sorted(call.turns, key=lambda turn: turn.seq, reverse=True))
    return next((intent for intent in intents if intent and intent not in CONVERSATION_INTENTS), "")


def _name(text: str) -> str:
    return text if is_name(text) else OTHER


def _bundle_version(version: str) -> str:
    match = _BUNDLE_VERSION.fullmatch(version)
    return str(int(match.group(1))) if match is not None else NO_BUNDLE
