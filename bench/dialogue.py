"""A call as a person reads it: who said what, and where the time of each reply went.

Joins three sources: the recording (what the ear measured), an independent recogniser (what the agent was heard to
say) and the node's record (what it understood, and its stages).
"""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

from rapidfuzz import fuzz
from rich.console import Console

from bench.exchange import Exchange, Turn, UtteranceKind
from bench.judge import MARGIN_S, Listener
from bench.node_records import RecordedCall
from bench.recording import Recording, Span
from edge.records.model import TurnRecord, TurnTimings

SAME_WORDS = 45.0
BAR_MS_PER_COLUMN = 20


@dataclass(frozen=True, slots=True, kw_only=True)
class DialogueTurn:
    """One exchange; `agent_heard` comes from the recording, `understood` and `timings` from the node's record."""

    kind: UtteranceKind
    caller: str
    understood: str | None
    agent_heard: str
    intent: str | None
    response_ms: int | None
    barge_in_ms: int | None
    timings: TurnTimings | None


def greeting_of(recording: Recording, exchange: Exchange, ear: Listener) -> str:
    """What the agent said before the caller's first words."""
    first = exchange.turns[0].utterance.start_s if exchange.turns else float("inf")
    return hear_spans(recording, [span for span in exchange.agent if span.start_s < first], ear)


def dialogue(
    recording: Recording, exchange: Exchange, ear: Listener, record: RecordedCall | None
) -> tuple[DialogueTurn, ...]:
    """Every turn of a call, in order."""
    waiting = list(record.turns) if record else []
    turns = []
    for turn in exchange.turns:
        own = _take(turn, waiting)
        turns.append(
            DialogueTurn(
                kind=turn.utterance.kind,
                caller=turn.utterance.text,
                understood=own.caller_text if own else None,
                agent_heard=hear_spans(recording, turn.agent, ear),
                intent=own.intent if own else None,
                response_ms=_ms(turn.response_s),
                barge_in_ms=_ms(turn.barge_in_s),
                timings=own.timings if own else None,
            )
        )
    return tuple(turns)


def hear_spans(recording: Recording, spans: Sequence[Span], ear: Listener) -> str:
    """The words in a stretch of the agent's side."""
    if not spans:
        return ""
    start = int(max(0.0, spans[0].start_s - MARGIN_S) * recording.rate_hz)
    return ear.transcribe(
        recording.agent[start : int((spans[-1].end_s + MARGIN_S) * recording.rate_hz)], recording.rate_hz
    )


def as_json(turns: Sequence[DialogueTurn]) -> list[dict[str, Any]]:
    """For `--json`."""
    return [asdict(turn) for turn in turns]


def print_dialogue(greeting: str, first_audio_ms: int | None, turns: Sequence[DialogueTurn], console: Console) -> None:
    """The dialogue with a waterfall under each reply."""
    console.print(f"[bold]agent [/bold] {greeting or '(no greeting)'}  [dim]first audio {first_audio_ms} ms[/dim]")
    for turn in turns:
        how = {UtteranceKind.BARGE_IN: " (interrupts)", UtteranceKind.DIGITS: " (keys)"}.get(turn.kind, "")
        console.print(f"[bold cyan]caller[/bold cyan]{how} {turn.caller}")
        console.print(f"[bold]agent [/bold] {turn.agent_heard or '(silence)'}")
        _print_waterfall(turn, console)


def stages(timings: TurnTimings) -> list[tuple[str, int, int]]:
    """Name, begin and length in ms after the caller's last word, of every stage that ran."""
    begin = timings.pause_seen_ms or 0
    rows = [("pause seen", 0, begin)]
    for name, length in (
        ("recognition queue", timings.recognise_queue_ms),
        ("recognition", timings.recognise_compute_ms),
        ("understanding", timings.understand_ms),
    ):
        if length is not None:
            rows.append((name, begin, length))
            begin += length
    if timings.audio_ready_ms is not None:
        rows.append(("audio ready", min(begin, timings.audio_ready_ms), max(0, timings.audio_ready_ms - begin)))
        begin = max(begin, timings.audio_ready_ms)
    if timings.sent_ms is not None:
        rows.append(("committed, sent", min(begin, timings.sent_ms), max(0, timings.sent_ms - begin)))
    return rows


def _print_waterfall(turn: DialogueTurn, console: Console) -> None:
    if turn.barge_in_ms is not None:
        console.print(f"       [dim]silent {turn.barge_in_ms} ms after the caller began[/dim]")
    rows = stages(turn.timings) if turn.timings else []
    if turn.response_ms is not None:
        rows.append(("at the caller's ear", 0, turn.response_ms))
    for name, begin, length in rows:
        bar = " " * (begin // BAR_MS_PER_COLUMN) + "█" * max(1, length // BAR_MS_PER_COLUMN)
        console.print(f"       [dim]{name:20}{begin + length:5} ms[/dim] {bar}", highlight=False)


def _take(turn: Turn, waiting: list[TurnRecord]) -> TurnRecord | None:
    """The record of this turn: the next one with nearly these words; what stands before it was no line of ours."""
    for index, record in enumerate(waiting):
        if fuzz.ratio(turn.utterance.text.lower(), record.caller_text.lower()) >= SAME_WORDS:
            del waiting[: index + 1]
            return record
    return None


def _ms(seconds: float | None) -> int | None:
    return round(seconds * 1000) if seconds is not None else None
