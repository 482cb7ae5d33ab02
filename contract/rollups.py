"""How rollups are named, and how their entries add up (uplink.proto, Entry): the same at nodes and at the hub.

Driven by the message's own description, so that a field which is added to it cannot be forgotten here.
"""

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass

from google.protobuf.descriptor import FieldDescriptor
from google.protobuf.message import Message

from contract.sketch import LatencySketch
from contract.uplink_pb2 import Calls, Entry, Sketch, Turns

# Digits of the sequence after those of the subject, which six bytes of a digest fill.
_SEQ_DIGITS = 16
_SUBJECT_DIGITS = 15
_SUBJECT_BYTES = 6


def message_id(subject: str, seq: int) -> str:
    """Names a rollup for the duplicate window of the hub's stream, and says nothing but its subject and sequence."""
    of_subject = int.from_bytes(hashlib.sha256(subject.encode()).digest()[:_SUBJECT_BYTES])
    return f"{of_subject:0{_SUBJECT_DIGITS}d}{seq:0{_SEQ_DIGITS}d}"


@dataclass(frozen=True, slots=True, kw_only=True, order=True)
class EntryKey:
    """What an entry counts. `minute` since 1970: the first one of the time that a coarser entry covers."""

    minute: int
    tenant: str
    agent: str
    agent_version: str
    intent: str


def key_of(entry: Entry) -> EntryKey:
    """The key of an entry."""
    return EntryKey(
        minute=entry.minute,
        tenant=entry.tenant,
        agent=entry.agent,
        agent_version=entry.agent_version,
        intent=entry.intent,
    )


class EntrySum:
    """The sum of the counts of entries, whatever their keys."""

    def __init__(self) -> None:
        self._calls = _MessageSum(Calls)
        self._turns = _MessageSum(Turns)

    def add(self, entry: Entry) -> None:
        """Add all counts of an entry. Raises ValueError for a sketch that cannot be merged."""
        self._calls.add(entry.calls)
        self._turns.add(entry.turns)

    def calls(self) -> Calls:
        """The sum of the calls."""
        calls = self._calls.message()
        assert isinstance(calls, Calls)
        return calls

    def turns(self) -> Turns:
        """The sum of the turns."""
        turns = self._turns.message()
        assert isinstance(turns, Turns)
        return turns

    def entry(self, key: EntryKey) -> Entry:
        """The sum as an entry."""
        entry = Entry(
            minute=key.minute,
            tenant=key.tenant,
            agent=key.agent,
            agent_version=key.agent_version,
            intent=key.intent,
        )
        if self._calls.has_any:
            entry.calls.CopyFrom(self.calls())
        if self._turns.has_any:
            entry.turns.CopyFrom(self.turns())
        return entry


def coarsened(entries: Iterable[Entry], step_minutes: int) -> list[Entry]:
    """The same counts by the first minute of every step, in the order of their keys."""
    by_key: dict[EntryKey, list[Entry]] = {}
    for entry in entries:
        key = key_of(entry)
        start = EntryKey(
            minute=key.minute - key.minute % step_minutes,
            tenant=key.tenant,
            agent=key.agent,
            agent_version=key.agent_version,
            intent=key.intent,
        )
        by_key.setdefault(start, []).append(entry)
    return [_summed(key, by_key[key]) for key in sorted(by_key)]


def _summed(key: EntryKey, entries: list[Entry]) -> Entry:
    total = EntrySum()
    for entry in entries:
        total.add(entry)
    return total.entry(key)


class _MessageSum:
    """Adds up messages of one type: numbers, maps of numbers, lists of numbers bin by bin, and sketches."""

    def __init__(self, kind: type[Calls] | type[Turns]) -> None:
        self._kind = kind
        self._numbers: dict[str, int] = {}
        self._maps: dict[str, dict[str | int, int]] = {}
        self._lists: dict[str, list[int]] = {}
        self._sketches: dict[str, LatencySketch] = {}

    @property
    def has_any(self) -> bool:
        return any((self._numbers, self._maps, self._lists, self._sketches))

    def add(self, message: Calls | Turns) -> None:
        for field, value in message.ListFields():
            if isinstance(value, Sketch):
                self._sketches.setdefault(field.name, LatencySketch()).merge(value)
            elif isinstance(value, int):
                self._numbers[field.name] = self._numbers.get(field.name, 0) + value
            elif _is_map(field):
                counts = self._maps.setdefault(field.name, {})
                for name, count in value.items():
                    counts[name] = counts.get(name, 0) + count
            else:
                self._add_list(field.name, list(value))

    def message(self) -> Message:
        message = self._kind(**self._numbers, **self._lists)  # type: ignore[arg-type]  # fields of all types
        for name, counts in self._maps.items():
            getattr(message, name).update(counts)
        for name, sketch in self._sketches.items():
            getattr(message, name).CopyFrom(sketch.message())
        return message

    def _add_list(self, name: str, values: list[int]) -> None:
        sums = self._lists.setdefault(name, [])
        sums.extend([0] * (len(values) - len(sums)))
        for index, value in enumerate(values):
            sums[index] += value


def _is_map(field: FieldDescriptor) -> bool:
    return field.message_type is not None and field.message_type.GetOptions().map_entry
