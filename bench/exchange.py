"""Pairs the two sides of a recorded call into turns and measures each.

Owns what a response, a barge-in and a lost reply are. Pure: speech found by `bench.recording` and the caller's own
log of what it meant to say when (which only labels speech; every time that is measured comes from the recording).

Definitions
- response: end of the caller's speech to the start of the first speech of the agent after it, before the caller
  speaks again. A filler counts: it is what the ear hears. Turns whose first speech is short and followed by a pause
  are counted as `is_filler_likely`, and `settled_s` tells when the longer speech began.
- cut off: the agent began while the caller was in the middle of a line. Such a turn has no response time.
- barge-in: start of the caller's speech to the moment after which the agent is silent for 200 ms. An agent that then
  goes on while the caller still speaks (a false alarm, it thought, or a mere pause between sentences) is counted as
  `is_resumed_over_caller`.
- lost reply: after a cough or an "uh-huh" the agent says nothing more within three seconds, though it was speaking.
- DTMF is sent as RFC 4733 events and leaves no trace in the audio, so digits have no measured response.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from itertools import pairwise
from statistics import median

from bench.recording import Recording, Span, speech_spans

# The caller's log is kept at the socket; the recording hears it up to this much earlier or later.
LOG_TOLERANCE_S = 0.4
SILENT_FOR_S = 0.2
# An agent that begins this close to the end of the caller's words did not cut them off.
OVERLAP_ALLOWED_S = 0.1
FILLER_LONGEST_S = 1.2
FILLER_PAUSE_S = 0.35
REPLY_RESUMES_WITHIN_S = 3.0


class UtteranceKind(StrEnum):
    """What the caller did."""

    LINE = "line"
    BARGE_IN = "barge_in"
    NOISE = "noise"
    DIGITS = "digits"
    SILENCE = "silence"


@dataclass(frozen=True, slots=True, kw_only=True)
class Utterance:
    """The caller's log of one thing it did; seconds since the answer, by the caller's clock.

    `line` is the place in the scenario; a noise belongs to the line whose answer it disturbs.
    """

    kind: UtteranceKind
    line: int
    text: str
    start_s: float
    end_s: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Turn:
    """One utterance of the caller as heard, and what came of it. Fields that do not apply are None."""

    utterance: Utterance
    spoken: Span | None
    agent: tuple[Span, ...]
    response_s: float | None
    settled_s: float | None = None
    barge_in_s: float | None = None
    is_cut_off: bool = False
    is_resumed_over_caller: bool = False
    is_filler_likely: bool = False
    is_reply_kept: bool | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Exchange:
    """A whole call as heard; `first_audio_s` counts from the answer."""

    first_audio_s: float | None
    turns: tuple[Turn, ...]
    caller: tuple[Span, ...]
    agent: tuple[Span, ...]


def hear(recording: Recording, utterances: Sequence[Utterance]) -> Exchange:
    """Measure a call from its recording."""
    caller = speech_spans(recording.caller, recording.rate_hz, merge_gap_s=SILENT_FOR_S)
    agent = speech_spans(recording.agent, recording.rate_hz, merge_gap_s=SILENT_FOR_S)
    return pair(caller, agent, utterances)


def pair(caller: Sequence[Span], agent: Sequence[Span], utterances: Sequence[Utterance]) -> Exchange:
    """Measure a call from the speech of both sides, each in order of time."""
    spoken = [_spoken(caller, utterances, index) for index in range(len(utterances))]
    starts = [
        heard.start_s if heard else utterance.start_s for heard, utterance in zip(spoken, utterances, strict=True)
    ]
    until = [*starts[1:], float("inf")]
    turns = tuple(
        _turn(utterance, heard, agent, next_start)
        for utterance, heard, next_start in zip(utterances, spoken, until, strict=False)
    )
    lag_s = recording_lag_s(utterances, spoken)
    return Exchange(
        first_audio_s=agent[0].start_s + lag_s if agent else None,
        turns=turns,
        caller=tuple(caller),
        agent=tuple(agent),
    )


def recording_lag_s(utterances: Sequence[Utterance], spoken: Sequence[Span | None]) -> float:
    """How long after the answer the recording began: MixMonitor's clock starts with the first frame of either side.

    The caller's log counts from the answer, so its lines stand that much later in the log than in the recording.
    """
    gaps = [u.start_s - heard.start_s for u, heard in zip(utterances, spoken, strict=True) if heard is not None]
    return max(0.0, median(gaps)) if gaps else 0.0


def _spoken(caller: Sequence[Span], utterances: Sequence[Utterance], index: int) -> Span | None:
    """The speech between the logged start of this utterance and the start of the next."""
    if utterances[index].kind in {UtteranceKind.DIGITS, UtteranceKind.SILENCE}:
        return None
    since = utterances[index].start_s - LOG_TOLERANCE_S
    until = utterances[index + 1].start_s - LOG_TOLERANCE_S if index + 1 < len(utterances) else float("inf")
    own = [span for span in caller if since <= span.start_s < until]
    return Span(start_s=own[0].start_s, end_s=own[-1].end_s) if own else None


def _turn(utterance: Utterance, spoken: Span | None, agent: Sequence[Span], next_start_s: float) -> Turn:
    if spoken is None:
        # A silence is answered while it lasts.
        since = utterance.start_s if utterance.kind is UtteranceKind.SILENCE else utterance.end_s
        after = tuple(span for span in agent if since <= span.start_s < next_start_s)
        return Turn(utterance=utterance, spoken=None, agent=after, response_s=None)
    if utterance.kind is UtteranceKind.NOISE:
        return _noise_turn(utterance, spoken, agent, next_start_s)
    replies = tuple(span for span in agent if spoken.end_s - OVERLAP_ALLOWED_S <= span.start_s < next_start_s)
    cut = any(spoken.start_s < span.start_s < spoken.end_s - OVERLAP_ALLOWED_S for span in agent)
    is_barge_in = utterance.kind is UtteranceKind.BARGE_IN
    measured = bool(replies) and (is_barge_in or not cut)
    return Turn(
        utterance=utterance,
        spoken=spoken,
        agent=replies,
        response_s=replies[0].start_s - spoken.end_s if measured else None,
        settled_s=_settled(replies).start_s - spoken.end_s if measured else None,
        barge_in_s=_barge_in_s(spoken, agent) if is_barge_in else None,
        is_cut_off=cut and not is_barge_in,
        is_resumed_over_caller=cut and is_barge_in,
        is_filler_likely=measured and _settled(replies) is not replies[0],
    )


def _settled(replies: Sequence[Span]) -> Span:
    """The first speech that is not a filler: long enough, or with no pause after it."""
    for span, following in pairwise(replies):
        if span.length_s > FILLER_LONGEST_S or following.start_s - span.end_s < FILLER_PAUSE_S:
            return span
    return replies[-1] if len(replies) == 1 or replies[-1].length_s > FILLER_LONGEST_S else replies[0]


def _barge_in_s(spoken: Span, agent: Sequence[Span]) -> float | None:
    """None when the agent was not speaking when the caller began."""
    interrupted = next((span for span in agent if span.start_s < spoken.start_s < span.end_s), None)
    return interrupted.end_s - spoken.start_s if interrupted else None


def _noise_turn(utterance: Utterance, spoken: Span, agent: Sequence[Span], next_start_s: float) -> Turn:
    was_speaking = any(span.start_s < spoken.start_s < span.end_s for span in agent)
    after = tuple(span for span in agent if span.end_s > spoken.end_s and span.start_s < next_start_s)
    kept = any(span.start_s < spoken.end_s + REPLY_RESUMES_WITHIN_S for span in after)
    return Turn(
        utterance=utterance,
        spoken=spoken,
        agent=after,
        response_s=None,
        is_reply_kept=kept if was_speaking else None,
    )
