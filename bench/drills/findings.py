"""What a drill found: its calls listened to, judged, and joined with the rounds that struck them."""

from collections import Counter
from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass, replace

from bench.caller import Ending
from bench.dialogue import greeting_of
from bench.drills.calls import EndedCall
from bench.drills.drill import DrillRun
from bench.drills.measurement import Noticed, StruckCall, notice, usual_response_s
from bench.errors import RecordingError
from bench.exchange import Exchange, UtteranceKind, hear
from bench.judge import CallVerdict, Judge, Listener
from bench.recording import read_recording
from bench.words import words

SORRY = "cut off"
REPEATED_WORDS = 5


@dataclass(frozen=True, slots=True, kw_only=True)
class RingBack:
    """A caller who lost their call in a round and rang back. `is_resumed` None: nobody listened."""

    lost_in: int
    is_resumed: bool | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Findings:
    """Figures of all rounds, in seconds; `noticed` is by round, in the order of its calls."""

    noticed: dict[int, tuple[Noticed, ...]]
    usual_response_s: float | None
    double_speech: tuple[str, ...]
    # Calls without a usable recording.
    unheard: tuple[str, ...]
    ring_backs: tuple[RingBack, ...] = ()

    def only(self, rounds: Collection[int], call_ids: Collection[str]) -> "Findings":
        """Those of some rounds; `call_ids` are the calls that are counted under them."""
        return replace(
            self,
            noticed={number: noticed for number, noticed in self.noticed.items() if number in rounds},
            double_speech=tuple(call for call in self.double_speech if call in call_ids),
            ring_backs=tuple(one for one in self.ring_backs if one.lost_in in rounds),
        )

    def resumed(self) -> int | None:
        """How many who rang back were known again; None when nobody listened."""
        if any(one.is_resumed is None for one in self.ring_backs):
            return None
        return sum(bool(one.is_resumed) for one in self.ring_backs)

    def silences_s(self) -> list[float]:
        """Of every call and blow after which the agent was heard again."""
        return [one.silence_s for all_ in self.noticed.values() for one in all_ if one.silence_s is not None]

    def extra_responses_s(self) -> list[float]:
        """What the first answer after each blow took longer than answers usually do."""
        if self.usual_response_s is None:
            return []
        return [
            max(0.0, one.response_s - self.usual_response_s)
            for all_ in self.noticed.values()
            for one in all_
            if one.response_s is not None
        ]

    def contexts(self) -> Counter[bool]:
        """How often the context was kept, and not."""
        return Counter(
            one.is_context_kept for all_ in self.noticed.values() for one in all_ if one.is_context_kept is not None
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Ears:
    """Who listens to a drill's recordings."""

    judge: Judge
    listener: Listener


def find(run: DrillRun, ears: Ears | None, progress: Callable[[int, int], None]) -> Findings:
    """Listen to every call of a drill; without ears, only measure."""
    struck: list[tuple[EndedCall, StruckCall]] = []
    untouched: list[Exchange] = []
    double: list[str] = []
    unheard: list[str] = []
    resumed: set[str] = set()
    for index, ended in enumerate(run.calls):
        progress(index + 1, len(run.calls))
        if ended.trace.answered_after_s is None:
            continue
        try:
            recording = read_recording(ended.trace.spoken_file, ended.trace.heard_file)
        except RecordingError:
            unheard.append(ended.call.plan.call_id)
            continue
        exchange = hear(recording, ended.trace.utterances)
        if ended.call.is_ring_back and ears and SORRY in greeting_of(recording, exchange, ears.listener).lower():
            resumed.add(ended.call.plan.caller_number)
        if not ended.call.blows:
            untouched.append(exchange)
            continue
        verdict = ears.judge.judge(ended.trace, recording, exchange) if ears else None
        one = _struck(ended, exchange, verdict)
        struck.append((ended, one))
        if verdict is not None and _speaks_double(ended, verdict):
            double.append(one.call_id)
    return Findings(
        noticed=_by_round(struck),
        usual_response_s=usual_response_s([one for _, one in struck], untouched),
        double_speech=tuple(double),
        unheard=tuple(unheard),
        ring_backs=_ring_backs(run.calls, None if ears is None else resumed),
    )


def _ring_backs(calls: Sequence[EndedCall], resumed: Collection[str] | None) -> tuple[RingBack, ...]:
    """One for each caller, who may have rung several times; `resumed` are the numbers of those who were known again."""
    lost_in = {one.call.plan.caller_number: one.call.lost_in for one in calls}
    return tuple(
        RingBack(lost_in=number, is_resumed=None if resumed is None else caller in resumed)
        for caller, number in lost_in.items()
        if number is not None
    )


def _struck(ended: EndedCall, exchange: Exchange, verdict: CallVerdict | None) -> StruckCall:
    return StruckCall(
        call_id=ended.call.plan.call_id,
        blows_s=tuple(blow.at_s - ended.call.answered_s for blow in ended.call.blows),
        utterances=ended.trace.utterances,
        exchange=exchange,
        verdict=verdict,
    )


def _by_round(struck: Sequence[tuple[EndedCall, StruckCall]]) -> dict[int, tuple[Noticed, ...]]:
    found: dict[int, tuple[Noticed, ...]] = {}
    for ended, one in struck:
        for number, noticed in _noticed(ended, one):
            found[number] = (*found.get(number, ()), noticed)
    return found


def _noticed(ended: EndedCall, one: StruckCall) -> Iterator[tuple[int, Noticed]]:
    """By round. On a line that is dead nothing is noticed, and what was not said on it is no lost context."""
    fatal = ended.fatal
    for blow, noticed in zip(ended.call.blows, notice(one), strict=True):
        if fatal is None:
            yield blow.number, noticed
        elif blow.at_s <= fatal.at_s:
            yield blow.number, replace(noticed, is_context_kept=None, failures=())


def _speaks_double(ended: EndedCall, verdict: CallVerdict) -> bool:
    """Whether an answer was heard to its end twice, without an apology, to a line that was said once."""
    said = Counter(one.line for one in ended.trace.utterances if one.kind is UtteranceKind.LINE)
    return any(
        said[line.line] == 1 and bool(line.heard) and all(says_it_twice(text) for text in line.heard)
        for line in verdict.lines
    )


def says_it_twice(text: str) -> bool:
    """Whether the last words of a text stand in it twice, and it holds no apology."""
    said = words(text)
    if SORRY in text.lower() or len(said) < 2 * REPEATED_WORDS:
        return False
    last = said[-REPEATED_WORDS:]
    earlier = said[:-REPEATED_WORDS]
    return any(earlier[start : start + REPEATED_WORDS] == last for start in range(len(earlier) - REPEATED_WORDS + 1))


def lost_calls(run: DrillRun) -> list[EndedCall]:
    """Calls that were answered and came to nothing."""
    return [one for one in run.calls if one.is_lost]


def unanswered_calls(run: DrillRun) -> list[EndedCall]:
    """Calls that nobody took."""
    return [one for one in run.calls if one.trace.ending is Ending.REFUSED]
