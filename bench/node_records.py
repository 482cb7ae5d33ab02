"""Finds the node's own record of each call of a run: what it understood, and where its time went.

Numbers are not stored in the clear, so a call is matched by tenant and time of answer, and where several began
together by how well the words fit. Used for the word error rate and the waterfall, never to judge an answer.
"""

import datetime as dt
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from bench.caller import CallTrace
from bench.report import said_by_caller
from bench.statistics import WordErrors, word_errors
from bench.words import words
from edge.records.database import DatabaseSettings
from edge.records.model import CallRecord, TurnRecord
from edge.records.store import CallReader

BEGAN_WITHIN = dt.timedelta(seconds=2.5)


@dataclass(frozen=True, slots=True, kw_only=True)
class RecordedCall:
    """A call as the node recorded it."""

    record: CallRecord
    turns: tuple[TurnRecord, ...]

    @property
    def caller_text(self) -> str:
        return " ".join(turn.caller_text for turn in self.turns)


def recorded_calls(records: Path, tenants: Sequence[str], *, limit: int) -> list[RecordedCall]:
    """The newest calls of these tenants."""
    found = []
    for tenant in tenants:
        reader = CallReader(records, tenant, DatabaseSettings())
        found += [RecordedCall(record=call, turns=reader.turns(call.call_id)) for call in reader.recent_calls(limit)]
    return found


def match(traces: Sequence[CallTrace], recorded: Sequence[RecordedCall]) -> dict[str, RecordedCall]:
    """The record of each call, by the bench's call id; calls without one are missing."""
    pairs = sorted(
        (
            (compare(trace, call).rate or 0.0, trace.plan.call_id, index)
            for trace in traces
            for index, call in enumerate(recorded)
            if _may_be(trace, call.record)
        ),
    )
    found: dict[str, RecordedCall] = {}
    taken: set[int] = set()
    for _, call_id, index in pairs:
        if call_id not in found and index not in taken:
            found[call_id] = recorded[index]
            taken.add(index)
    return found


def compare(trace: CallTrace, call: RecordedCall) -> WordErrors:
    """What the caller said against what the node understood."""
    return word_errors(words(said_by_caller(trace)), words(call.caller_text))


def _may_be(trace: CallTrace, record: CallRecord) -> bool:
    began = record.answered_at or record.started_at
    return record.tenant == trace.plan.scenario.tenant and abs(began - trace.answered_at) <= BEGAN_WITHIN
