"""What callers noticed of a blow, from the recordings of their ears. Pure.

Definitions; all times come from the recording, the caller's log only tells lines apart.
- silence: the longest wait for the agent within five seconds after the blow (for its first words after it, where they
  come later): from the last sound before them, whoever made it, to those words. For an agent that was broken off that
  is the gap in its speech, else the time that an answer took. Words into those of the caller were not waited for: 0.
  Nor was the agent waited for while the caller took time to speak: where it had been silent for a second by itself
  (longer than between two clauses), the wait begins with the blow.
- response: end of the caller's line to the agent's first word (bench.exchange); extra response is that of the first
  turn after a blow less the median of all other turns.
- context kept: the answers after a blow hold what the scenario expects of them; each rests on the turn before it.
- double speech: a line of the caller has more turns in the records than it was said times.
"""

import statistics
from collections.abc import Sequence
from dataclasses import dataclass

from bench.exchange import Exchange, Turn, Utterance, recording_lag_s
from bench.judge import CallVerdict
from bench.recording import Span

SOON_S = 5.0
# An agent that is silent for longer has said what it had to say (bench/drills/person.py goes on after as long).
FINISHED_AFTER_S = 1.0


@dataclass(frozen=True, slots=True, kw_only=True)
class StruckCall:
    """A call with the blows that fell into it, in seconds since its answer, and what its recording holds.

    `verdict` None: it was not judged.
    """

    call_id: str
    blows_s: tuple[float, ...]
    utterances: tuple[Utterance, ...]
    exchange: Exchange
    verdict: CallVerdict | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Noticed:
    """What one blow was to one caller. None: the agent was not heard again, or there was no such turn."""

    call_id: str
    silence_s: float | None
    response_s: float | None
    is_context_kept: bool | None
    failures: tuple[str, ...] = ()


def notice(call: StruckCall) -> tuple[Noticed, ...]:
    """What the caller noticed of each blow, in their order."""
    return tuple(_notice(call, blow_s - _lag_s(call)) for blow_s in call.blows_s)


def usual_response_s(calls: Sequence[StruckCall], untouched: Sequence[Exchange]) -> float | None:
    """The median response of turns that were not the first one after a blow."""
    times = [turn.response_s for one in untouched for turn in one.turns if turn.response_s is not None]
    for call in calls:
        firsts = [_first_after(call.exchange, blow_s - _lag_s(call)) for blow_s in call.blows_s]
        times += [
            turn.response_s
            for turn in call.exchange.turns
            if turn.response_s is not None and not any(turn is first for first in firsts)
        ]
    return statistics.median(times) if times else None


def _notice(call: StruckCall, blow_s: float) -> Noticed:
    first = _first_after(call.exchange, blow_s)
    failures = _failures(call, blow_s)
    return Noticed(
        call_id=call.call_id,
        silence_s=_silence_s(call.exchange, blow_s),
        response_s=first.response_s if first is not None else None,
        is_context_kept=None if failures is None else not failures,
        failures=failures or (),
    )


def _silence_s(exchange: Exchange, blow_s: float) -> float | None:
    after = [span for span in exchange.agent if span.start_s > blow_s]
    soon = [span for span in after if span.start_s <= blow_s + SOON_S] or after[:1]
    return max((_waited_s(exchange, span, blow_s) for span in soon), default=None)


def _waited_s(exchange: Exchange, words: Span, blow_s: float) -> float:
    """The silence before these words of the agent."""
    by_caller, by_agent = (
        max((span.end_s for span in side if span.start_s < words.start_s), default=0.0)
        for side in (exchange.caller, exchange.agent)
    )
    is_callers_pause = by_agent > by_caller and blow_s - by_agent > FINISHED_AFTER_S
    return max(0.0, words.start_s - (blow_s if is_callers_pause else max(by_caller, by_agent)))


def _first_after(exchange: Exchange, blow_s: float) -> Turn | None:
    """The first turn with a response whose line ended after the blow."""
    turns = (turn for turn in exchange.turns if turn.spoken is not None and turn.spoken.end_s > blow_s)
    return next((turn for turn in turns if turn.response_s is not None), None)


def _lag_s(call: StruckCall) -> float:
    return recording_lag_s(call.utterances, [turn.spoken for turn in call.exchange.turns])


def _failures(call: StruckCall, blow_s: float) -> tuple[str, ...] | None:
    """What was wrong with the answer to the line that was open at the blow, and with all after it."""
    if call.verdict is None:
        return None
    starts = {turn.utterance.line: turn.spoken.start_s for turn in call.exchange.turns if turn.spoken is not None}
    first = max((line for line, start_s in starts.items() if start_s <= blow_s), default=0)
    lines = [line for line in call.verdict.lines if line.line >= first]
    wrong = [f"line {line.line}: {what} (heard: {' / '.join(line.heard)})" for line in lines for what in line.failures]
    return (*call.verdict.failures, *wrong)
