"""Whether a rollup says nothing but what the hub itself named and could have happened. Pure.

After contract/uplink_guard.py (form, sizes, nothing unknown) come the names: each must be built in or stand in a
document of the tenant; and the counts: they must add up, and a sketch must be one of so many values. What is wrong is
told by field, never by content.

Documents that the hub lost in a restore, or a clock that is ahead, are no fault of a rollup: such problems are NotYet.
A name that is unknown is one only in an entry of a bundle version that the hub does not have; what it compiled itself
names all there is.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from contract import uplink_guard
from contract.builtin_names import BUILTIN_INTENTS, BUILTIN_REASONS, OTHER
from contract.rollups import message_id
from contract.sketch import SMALLEST_VALUE, count_of, upper_edge
from contract.subjects import rollup as rollup_subject
from contract.uplink_pb2 import Calls, Entry, Rollup, Sketch, Turns
from controlplane.rollups.ports import KnownNames

# A call that no bundle of the hub answered.
NO_BUNDLE = "0"
# A node's clock may be wrong by so much.
CLOCK_MINUTES = 10
# The edges of bins are computed; two machines may differ in the last digits.
TOLERANCE = 1e-9
_CALL_SKETCHES = ("first_audio_ms", "duration_ms")
_TURN_SKETCHES = (
    "response_ms",
    "pause_seen_ms",
    "recognise_queue_ms",
    "recognise_compute_ms",
    "understand_ms",
    "audio_ready_ms",
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Arrived:
    """A message of the rollup stream. `region` and `node` are tokens of its subject."""

    region: str
    node: str
    payload: bytes
    headers: Mapping[str, str] | None
    now_ms: int


class NotYet(str):
    """A problem that newer documents, or time, may take away."""

    __slots__ = ()


def read_rollup(arrived: Arrived, names: KnownNames) -> tuple[Rollup, list[str]]:
    """The rollup, and everything that is wrong with it; refuse it if that is anything."""
    rollup, problems = uplink_guard.read(Rollup, arrived.payload)
    named = message_id(rollup_subject(arrived.region, arrived.node), rollup.seq)
    problems = problems + uplink_guard.check_headers(arrived.headers, named)
    if not problems:
        problems = uplink_guard.check_sender(rollup, arrived.region, arrived.node)
    if not problems:
        problems = list(_problems(rollup, names, arrived.now_ms))
    return rollup, problems


def _problems(rollup: Rollup, names: KnownNames, now_ms: int) -> Iterator[str]:
    newest_minute = now_ms // 60_000 + CLOCK_MINUTES
    if rollup.seq == 0:
        yield "seq: is missing"
    for entry in rollup.entries:
        if entry.minute > newest_minute:
            yield NotYet("entries.minute: has not come")
        yield from _names(entry, rollup.region, names)
        yield from _calls(entry.calls)
        yield from _turns(entry.turns)


def _names(entry: Entry, region: str, names: KnownNames) -> Iterator[str]:
    version = entry.agent_version
    is_number = version.isascii() and version.isdigit() and str(int(version)) == version
    if not is_number:
        yield "entries.agent_version: is no bundle of the region"
    elif version != NO_BUNDLE and int(version) > names.newest_bundle(region):
        yield NotYet("entries.agent_version: is no bundle of the region")
    is_known = not is_number or version == NO_BUNDLE or names.has_bundle(region, int(version))
    yield from _unknown(entry, region, names) if is_known else map(NotYet, _unknown(entry, region, names))


def _unknown(entry: Entry, region: str, names: KnownNames) -> Iterator[str]:
    tenant, agent = entry.tenant, entry.agent
    if tenant != OTHER and tenant not in names.tenants(region):
        yield "entries.tenant: is not known in the region"
    elif agent != OTHER and agent not in names.agents(tenant):
        yield "entries.agent: is not known"
    elif entry.intent and entry.intent not in BUILTIN_INTENTS and entry.intent not in names.intents(tenant, agent):
        yield "entries.intent: is not known"
    reasons = names.reasons(tenant)
    if any(reason not in BUILTIN_REASONS and reason not in reasons for reason in entry.calls.escalated):
        yield "entries.calls.escalated: is not known"


def _calls(calls: Calls) -> Iterator[str]:
    escalated = sum(calls.escalated.values())
    if calls.contained + calls.abandoned + calls.failed + escalated != calls.total:
        yield "entries.calls: outcomes do not add up"
    if sum(calls.abandoned_by_turn.values()) != calls.abandoned:
        yield "entries.calls.abandoned_by_turn: does not add up"
    if calls.repeated > calls.total:
        yield "entries.calls.repeated: more than all"
    for name in _CALL_SKETCHES:
        yield from _sketch(f"entries.calls.{name}", getattr(calls, name), calls.total)


def _turns(turns: Turns) -> Iterator[str]:
    if max(turns.interrupted, turns.silent, sum(turns.confidence)) > turns.total:
        yield "entries.turns: more of a kind than all"
    for name in _TURN_SKETCHES:
        yield from _sketch(f"entries.turns.{name}", getattr(turns, name), turns.total)


def _sketch(where: str, sketch: Sketch, total: int) -> Iterator[str]:
    count = count_of(sketch)
    if count > total:
        yield f"{where}: more values than there were"
    elif not count:
        if sketch.ByteSize():
            yield f"{where}: is of no values, and not empty"
    elif not _is_of_its_values(sketch):
        yield f"{where}: is not the sketch of any values"


def _is_of_its_values(sketch: Sketch) -> bool:
    """Whether minimum, maximum and sum can be those of values in these bins; numbers that cannot may say something."""
    counts = sketch.counts
    if counts and not (counts[0] and counts[-1]):
        return False
    if not counts:
        return sketch.first_bin == 0 and max(sketch.sum, sketch.maximum) <= SMALLEST_VALUE * sketch.zeros
    edges = [upper_edge(sketch.first_bin + offset) for offset in range(-1, len(counts))]
    lowest = sum(count * edge for count, edge in zip(counts, edges, strict=False))
    highest = sum(count * edge for count, edge in zip(counts, edges[1:], strict=True)) + SMALLEST_VALUE * sketch.zeros
    slack = 1 + TOLERANCE
    has_minimum = sketch.zeros or edges[0] <= sketch.minimum * slack <= edges[1] * slack * slack
    has_maximum = edges[-2] <= sketch.maximum * slack <= edges[-1] * slack * slack
    is_small = not sketch.zeros or sketch.minimum <= SMALLEST_VALUE
    return bool(has_minimum and has_maximum and is_small and lowest <= sketch.sum * slack <= highest * slack * slack)
