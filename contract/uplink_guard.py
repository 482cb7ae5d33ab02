"""Whether a message that goes up says nothing but counts, versions and names. Pure; the node asks before it sends, the
hub when it receives. The hub also knows which names exist, and refuses the rest.

What it is for: a type without a field for text still has strings, map keys, unknown fields, and bytes that a parser
skips. What it cannot do: somebody who owns a node can hide a few bits in counts. It takes away text, and identifiers in
clear.
"""

import math
import re
from collections.abc import Iterator, Mapping
from typing import TypeVar

from google.protobuf.descriptor import FieldDescriptor
from google.protobuf.message import DecodeError, Message

from contract.alarms import AlarmCode
from contract.names import (
    BUNDLE_VERSION_PATTERN,
    NAME_PATTERN,
    NODE_PATTERN,
    REGION_PATTERN,
    RELEASE_PATTERN,
    has_few_digits,
)
from contract.sketch import BINS, CONFIDENCE_BINS, FIRST_BIN, LARGEST_VALUE, LAST_BIN

_M = TypeVar("_M", bound=Message)

# Calls, turns and versions of one node stay below; a phone number with its area code does not.
MAX_COUNT = 100_000_000
MAX_ENTRIES = 20_000
MAX_KNOWLEDGE = 10_000
MAX_ALARMS = len(AlarmCode)
MAX_REASONS = 256
MAX_TURN_NUMBER = 10_000
# 2020 to 2100.
_FIRST_MS, _LAST_MS = 1_577_836_800_000, 4_102_444_800_000
_MS_A_MINUTE = 60_000
# The only header a message may have, and rollups only: it tells the hub's server that a message was sent twice.
MESSAGE_ID_HEADER = "Nats-Msg-Id"
# Added by the hub's server where a message passes its wall.
_SERVER_HEADERS = frozenset({"Nats-Request-Info"})

_ALARMS = frozenset(AlarmCode)
_DOCUMENT_KINDS = frozenset({"", "Tenant", "Agent", "Flow", "Policy", "Region"})
_NAME = re.compile(NAME_PATTERN)
_TEXTS: Mapping[str, re.Pattern[str]] = {
    "region": re.compile(REGION_PATTERN),
    "node": re.compile(NODE_PATTERN),
    "agent_version": re.compile(BUNDLE_VERSION_PATTERN),
    "release": re.compile(RELEASE_PATTERN),
}
_MAY_BE_EMPTY = frozenset({"intent", "tenant", "agent", "agent_version", "release", "document_name"})
_LONGEST: Mapping[str, int] = {
    "entries": MAX_ENTRIES,
    "confidence": CONFIDENCE_BINS,
    "counts": BINS,
    "knowledge": MAX_KNOWLEDGE,
    "alarms": MAX_ALARMS,
    "escalated": MAX_REASONS,
    "abandoned_by_turn": MAX_REASONS,
}


# Repeated integers that count; each is between 0 and MAX_COUNT.
_BOUNDED_COUNTS = frozenset({"counts", "confidence"})


def read(kind: type[_M], payload: bytes) -> tuple[_M, list[str]]:
    """Parse what came in, and everything that is wrong with it; what cannot be parsed is an empty message.

    Every encoding that is not the shortest one is refused: it could hold bytes that mean nothing to us.
    """
    message = kind()
    try:
        message.ParseFromString(payload)
    except DecodeError:
        return kind(), ["is no message of this type"]
    problems = check(message)
    if not problems and len(message.SerializeToString()) != len(payload):
        problems = ["holds bytes that its fields do not account for"]
    return message, problems


def check(message: Message) -> list[str]:
    """Everything that is wrong with a message of contract/uplink.proto; problems name fields, never their content."""
    return list(_problems(message, ""))


def check_sender(message: Message, region: str, node: str) -> list[str]:
    """Whether the message names the region and node on whose subject it came."""
    said = {field.name: value for field, value in message.ListFields()}
    return [
        f"{name} is not the sender's" for name, own in (("region", region), ("node", node)) if said.get(name) != own
    ]


def check_headers(headers: Mapping[str, str] | None, message_id: str | None = None) -> list[str]:
    """Headers carry text as well as any field; so a message id must be the one that the hub would give itself."""
    problems = []
    for name, value in (headers or {}).items():
        if name == MESSAGE_ID_HEADER:
            if value != message_id:
                problems.append("the message id is none of ours")
        elif name not in _SERVER_HEADERS:
            problems.append("has a header that is none of ours")
    return problems


def check_ping(payload: bytes, headers: Mapping[str, str] | None) -> list[str]:
    """A ping says nothing at all."""
    return [*(["a ping is not empty"] if payload else []), *check_headers(headers)]


def _problems(message: Message, path: str) -> Iterator[str]:
    stripped = type(message)()
    stripped.CopyFrom(message)
    stripped.DiscardUnknownFields()
    if stripped.ByteSize() != message.ByteSize():
        yield f"{path or 'message'}: has fields that the type does not know"
        return
    for field, value in message.ListFields():
        where = f"{path}.{field.name}" if path else str(field.name)
        if field.is_repeated:
            yield from _repeated(field, value, where)
        else:
            yield from _single(field, value, where)
    yield from _missing(message, path)


def _missing(message: Message, path: str) -> Iterator[str]:
    """Empty strings are not listed among a message's fields."""
    for field in message.DESCRIPTOR.fields:
        if (
            field.type == FieldDescriptor.TYPE_STRING
            and not field.is_repeated
            and field.name in ("region", "node")
            and not getattr(message, field.name)
        ):
            yield f"{path + '.' if path else ''}{field.name}: is empty"


def _repeated(field: FieldDescriptor, values: "Message", where: str) -> Iterator[str]:
    longest = _LONGEST.get(field.name, 0)
    if len(values) > longest:  # type: ignore[arg-type]
        yield f"{where}: more than {longest}"
        return
    if field.message_type is not None and field.message_type.GetOptions().map_entry:
        count = field.message_type.fields_by_name["value"]
        for name, number in values.items():  # type: ignore[attr-defined]
            yield from _map_key(name, where)
            yield from _single(count, number, where)
        return
    if field.name in _BOUNDED_COUNTS:
        # Most of a rollup is these: all at once.
        if values and not 0 <= min(values) <= max(values) <= MAX_COUNT:  # type: ignore[call-overload]
            yield from (f"{where}: out of range" for value in values if not 0 <= value <= MAX_COUNT)  # type: ignore[attr-defined]
        return
    for value in values:  # type: ignore[attr-defined]
        yield from _single(field, value, where)


def _map_key(key: object, where: str) -> Iterator[str]:
    if isinstance(key, str):
        yield from _text(key, where, _NAME)
    elif not isinstance(key, int) or not 0 <= key <= MAX_TURN_NUMBER:
        yield f"{where}: a key out of range"


def _single(field: FieldDescriptor, value: object, where: str) -> Iterator[str]:
    if isinstance(value, Message):
        yield from _problems(value, where)
    elif isinstance(value, str):
        yield from _string(field.name, value, where)
    elif isinstance(value, float):
        if not math.isfinite(value) or not 0 <= value <= LARGEST_VALUE * (MAX_COUNT if field.name == "sum" else 1):
            yield f"{where}: out of range"
    elif isinstance(value, bytes):
        yield f"{where}: bytes"
    elif isinstance(value, int) and field.type != FieldDescriptor.TYPE_BOOL:
        yield from _number(field, value, where)


def _number(field: FieldDescriptor, value: int, where: str) -> Iterator[str]:
    if field.enum_type is not None:
        if value not in field.enum_type.values_by_number:
            yield f"{where}: no such value"
    elif field.name.endswith("at_ms"):
        if not _FIRST_MS <= value <= _LAST_MS:
            yield f"{where}: no time of ours"
    elif field.name == "minute":
        if not _FIRST_MS <= value * _MS_A_MINUTE <= _LAST_MS:
            yield f"{where}: no time of ours"
    elif field.name == "first_bin":
        if not FIRST_BIN <= value <= LAST_BIN:
            yield f"{where}: out of range"
    elif not 0 <= value <= _largest(field.name):
        yield f"{where}: out of range"


def _largest(name: str) -> int:
    # The age of a beat that never came is a node's whole life.
    return 0xFFFF_FFFF if name.endswith("_age_ms") else MAX_COUNT


def _string(name: str, value: str, where: str) -> Iterator[str]:
    if name == "document_kind":
        if value not in _DOCUMENT_KINDS:
            yield f"{where}: no kind of document"
    elif name == "alarms":
        if value not in _ALARMS:
            yield f"{where}: no alarm"
    elif value or name not in _MAY_BE_EMPTY:
        yield from _text(value, where, _TEXTS.get(name, _NAME))


def _text(value: str, where: str, pattern: re.Pattern[str]) -> Iterator[str]:
    if pattern.fullmatch(value) is None:
        yield f"{where}: is no name"
    elif not has_few_digits(value):
        yield f"{where}: looks like a number or an identifier"
