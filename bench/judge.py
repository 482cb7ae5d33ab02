"""Judges a call by its recording: what the agent really said, recognised by others than the node.

Owns what counts as success. Two recognisers that the node does not use in this form (faster-whisper over the whisper
base and tiny.en weights, beam 5) listen to the carrier's recording of the agent. How their text is matched:
- a phrase passes when its words stand in a row in either text; words of six letters and more may be misheard a little
  (rapidfuzz partial ratio >= 80, or every word alike by 70), numbers never: "sound weighed 300" is the Soundwave 300;
- a fact passes when `facts_in` of either text states it, a long number also when it is written in groups;
- a forbidden phrase fails when it stands in both texts;
- a wrong fact is a price, number, time or date in *both* texts that stands neither in the tenant's documents nor in
  the caller's words nor in what the scenario expects. One in a single text is listed as `unconfirmed`.
The human desk is recognised by its sound (cross-correlation with the greeting it played), not by words.
"""

import csv
import itertools
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import numpy as np
import soxr
import yaml
from faster_whisper import WhisperModel
from rapidfuzz import fuzz

from bench.caller import CallTrace, Ending
from bench.errors import JudgeMissingError
from bench.exchange import Exchange
from bench.recording import Recording, Samples, Span
from bench.scenario import Expectations, ExpectedAction, Press, Say
from bench.words import words
from edge.conversation.facts import Fact, FactKind, facts_in, is_stated

RECOGNISER_HZ = 16_000
MARGIN_S = 0.15
FUZZY_FROM_LETTERS = 6
FUZZY_RATIO = 80.0
# "step" and "stepped": every word of a phrase at least this much alike.
ALIKE = 70.0
LONG_NUMBER_DIGITS = 4
SAME_SOUND = 0.5
_GROUPED_NUMBER = re.compile(r"\d[\d\s().-]{3,}\d")


class Listener(Protocol):
    """Recognises what was said."""

    def transcribe(self, samples: Samples, rate_hz: int) -> str:
        """The words in up to half a minute of speech."""


class WhisperListener:
    """faster-whisper, loaded when it first listens."""

    def __init__(self, model: Path) -> None:
        self._directory = model
        self._model: WhisperModel | None = None

    def transcribe(self, samples: Samples, rate_hz: int) -> str:
        """The words in the audio. Raises JudgeMissingError when the weights are not there."""
        if self._model is None:
            if not (self._directory / "model.bin").is_file():
                raise JudgeMissingError(f"the recogniser {self._directory} is missing")
            self._model = WhisperModel(str(self._directory), device="cpu", compute_type="int8", cpu_threads=2)
        audio = soxr.resample(samples.astype(np.float32) / 32768, rate_hz, RECOGNISER_HZ)
        segments, _ = self._model.transcribe(
            audio, language="en", beam_size=5, condition_on_previous_text=False, without_timestamps=True
        )
        return " ".join(segment.text.strip() for segment in segments)


@dataclass(frozen=True, slots=True, kw_only=True)
class LineVerdict:
    """How one answer did; `heard` is what each recogniser made of it."""

    line: int
    heard: tuple[str, ...]
    failures: tuple[str, ...]
    wrong_facts: tuple[str, ...]
    unconfirmed: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class CallVerdict:
    """A call succeeds when every answer does."""

    lines: tuple[LineVerdict, ...]
    failures: tuple[str, ...]

    @property
    def is_success(self) -> bool:
        return not self.failures and not any(line.failures or line.wrong_facts for line in self.lines)


class Judge:
    """Judges calls of one run. `human_greeting` is what the desk played, at `rate_hz`."""

    def __init__(self, ears: Sequence[Listener], tenants: Path, human_greeting: Samples, rate_hz: int) -> None:
        self._ears = ears
        self._tenants = tenants
        self._greeting = human_greeting
        self._rate_hz = rate_hz
        self._known: dict[str, frozenset[Fact]] = {}

    def judge(self, trace: CallTrace, recording: Recording, exchange: Exchange) -> CallVerdict:
        """Listen to every answer of a call."""
        human_s = find_sound(self._greeting, recording.agent, self._rate_hz)
        verdicts = []
        for index, line in enumerate(trace.plan.scenario.lines):
            spans = [span for turn in exchange.turns if turn.utterance.line == index for span in turn.agent]
            heard = self._listen(recording, spans, until_s=human_s)
            failures = [*failed_expectations(line.expect, heard), *_failed_action(trace, index, human_s)]
            wrong, unconfirmed = self._wrong_facts(trace, heard)
            verdicts.append(
                LineVerdict(
                    line=index,
                    heard=heard,
                    failures=tuple(failures),
                    wrong_facts=wrong,
                    unconfirmed=unconfirmed,
                )
            )
        return CallVerdict(lines=tuple(verdicts), failures=_failed_call(trace))

    def _listen(self, recording: Recording, spans: Sequence[Span], *, until_s: float | None) -> tuple[str, ...]:
        kept = [span for span in spans if until_s is None or span.start_s < until_s - MARGIN_S]
        if not kept:
            return tuple("" for _ in self._ears)
        start = max(0.0, kept[0].start_s - MARGIN_S)
        end = min(kept[-1].end_s + MARGIN_S, until_s if until_s is not None else float("inf"))
        clip = recording.agent[int(start * recording.rate_hz) : int(end * recording.rate_hz)]
        return tuple(ear.transcribe(clip, recording.rate_hz) for ear in self._ears)

    def _wrong_facts(self, trace: CallTrace, heard: Sequence[str]) -> tuple[tuple[str, ...], tuple[str, ...]]:
        allowed = self._knowledge(trace.plan.scenario.tenant) | _said_by_caller(trace)
        strange = [frozenset(fact for fact in facts_in(text) if not is_known(fact, allowed)) for text in heard]
        in_all = frozenset.intersection(*strange) if strange else frozenset()
        in_some = frozenset.union(*strange) - in_all if strange else frozenset()
        return _named(in_all), _named(in_some)

    def _knowledge(self, tenant: str) -> frozenset[Fact]:
        if tenant not in self._known:
            self._known[tenant] = known_facts(texts_of(self._tenants / tenant))
        return self._known[tenant]


def failed_expectations(expect: Expectations, heard: Sequence[str]) -> list[str]:
    """What the scenario wanted and the recognisers did not hear, or the other way round."""
    failures = [f"not said: {phrase}" for phrase in expect.contains_all if not _is_heard(phrase, heard)]
    if expect.contains_any and not any(_is_heard(phrase, heard) for phrase in expect.contains_any):
        failures.append(f"none said: {', '.join(expect.contains_any)}")
    failures += [f"said: {phrase}" for phrase in expect.not_contains if heard and all(_has(phrase, t) for t in heard)]
    failures += [f"fact not said: {fact}" for fact in expect.facts if not _is_fact_heard(fact, heard)]
    return failures


def is_known(fact: Fact, allowed: Iterable[Fact]) -> bool:
    """Whether a fact may be said; pieces of long numbers (accounts, telephones) may, they are read out in groups."""
    listed = list(allowed)
    if is_stated(fact, listed):
        return True
    digits = fact.value
    return digits.isdigit() and any(
        other.value.isdigit() and len(other.value) >= LONG_NUMBER_DIGITS and digits in other.value for other in listed
    )


def known_facts(texts: Iterable[str]) -> frozenset[Fact]:
    """Every fact that stands in any of the texts, and numbers written in groups ("555 0190") as a whole."""
    listed = list(texts)
    grouped = [re.sub(r"\D", "", run) for text in listed for run in _GROUPED_NUMBER.findall(text)]
    return frozenset(fact for text in [*listed, *grouped] for fact in facts_in(text))


def texts_of(tenant: Path) -> Iterable[str]:
    """Every text in a tenant's documents."""
    for path in sorted(tenant.rglob("*.yaml")):
        for document in yaml.safe_load_all(path.read_text(encoding="utf-8")):
            yield from _scalars(document)
    for path in sorted(tenant.rglob("*.csv")):
        with path.open(encoding="utf-8", newline="") as file:
            for row in csv.reader(file):
                yield from row


def find_sound(needle: Samples, haystack: Samples, rate_hz: int) -> float | None:
    """Where a known sound begins in a recording, in seconds; None when it is not there."""
    if not len(needle) or len(haystack) < len(needle):
        return None
    wanted = needle.astype(np.float64) - needle.mean()
    there = haystack.astype(np.float64) - haystack.mean()
    size = 1 << (len(there) + len(wanted)).bit_length()
    product = np.fft.irfft(np.fft.rfft(there, size) * np.conj(np.fft.rfft(wanted, size)), size)
    product = product[: len(there) - len(wanted) + 1]
    power = np.concatenate(([0.0], np.cumsum(np.square(there))))
    norms = np.sqrt(np.maximum(power[len(wanted) :] - power[: -len(wanted)], 1.0)) * np.linalg.norm(wanted)
    likeness = product / np.maximum(norms, 1e-9)
    best = int(np.argmax(likeness))
    return best / rate_hz if likeness[best] >= SAME_SOUND else None


def _failed_call(trace: CallTrace) -> tuple[str, ...]:
    if trace.ending in {Ending.REFUSED, Ending.ABORTED}:
        return (f"the call was {trace.ending} (cause {trace.cause})", *trace.problems)
    return () if trace.is_script_done else ("the call ended in the middle of the script",)


def _failed_action(trace: CallTrace, index: int, human_s: float | None) -> list[str]:
    is_last = index == len(trace.plan.scenario.lines) - 1
    match trace.plan.scenario.lines[index].expect.action:
        case ExpectedAction.ESCALATE if human_s is None:
            return ["no human was heard"]
        case ExpectedAction.END if trace.ending is not Ending.NODE:
            return ["the agent did not end the call"]
        case ExpectedAction.NONE if is_last and (human_s is not None or trace.ending is Ending.NODE):
            return ["the call did not go on"]
        case _:
            return []


def _said_by_caller(trace: CallTrace) -> frozenset[Fact]:
    texts: list[str] = []
    for line in trace.plan.scenario.lines:
        match line.act:
            case Say(text=text):
                texts.append(text)
            case Press(digits=digits):
                texts.append(digits)
            case _:
                pass
        texts += [*line.expect.facts, *line.expect.contains_all, *line.expect.contains_any]
    return known_facts([*texts, *trace.plan.scenario.tool_texts])


def _is_heard(phrase: str, heard: Sequence[str]) -> bool:
    return any(_has(phrase, text) or _is_nearly_in(phrase, text) for text in heard)


def _has(phrase: str, text: str) -> bool:
    return f" {' '.join(words(phrase))} " in f" {' '.join(words(text))} "


def _is_nearly_in(phrase: str, text: str) -> bool:
    wanted = " ".join(words(phrase))
    if len(wanted) < FUZZY_FROM_LETTERS:
        return False
    heard = words(text)
    if any(character.isdigit() for character in wanted):
        return _is_numbered_name_in(words(phrase), heard)
    if fuzz.partial_ratio(wanted, " ".join(heard)) >= FUZZY_RATIO:
        return True
    said = words(phrase)
    windows = (heard[start : start + len(said)] for start in range(len(heard) - len(said) + 1))
    return any(
        all(fuzz.ratio(one, other) >= ALIKE for one, other in zip(said, window, strict=True)) for window in windows
    )


def _is_numbered_name_in(wanted: Sequence[str], heard: Sequence[str]) -> bool:
    """Whether a name that ends with a number was heard: the number exactly, the name before it nearly."""
    number = [*itertools.takewhile(str.isdigit, reversed(wanted))][::-1]
    name = "".join(wanted[: len(wanted) - len(number)])
    if not number or len(name) < FUZZY_FROM_LETTERS or any(character.isdigit() for character in name):
        return False
    for start in _runs_of(number, heard):
        # A name may be heard as one word more: "sound weighed".
        before = "".join(heard[max(0, start - (len(wanted) - len(number)) - 1) : start])
        if len(before) >= len(name) // 2 and fuzz.partial_ratio(name, before) >= ALIKE:
            return True
    return False


def _runs_of(number: Sequence[str], heard: Sequence[str]) -> list[int]:
    """Where these digits stand as a whole number; every digit is a word here."""
    padded = ["", *heard, ""]
    return [
        start
        for start in range(len(heard) - len(number) + 1)
        if list(heard[start : start + len(number)]) == list(number)
        and not padded[start].isdigit()
        and not padded[start + len(number) + 1].isdigit()
    ]


def _is_fact_heard(fact: str, heard: Sequence[str]) -> bool:
    wanted = facts_in(fact)
    if not wanted:
        return _is_heard(fact, heard)
    return any(all(_states(text, one) for one in wanted) for text in heard)


def _states(text: str, fact: Fact) -> bool:
    """Whether the text states the fact; long numbers may be written in groups: "555-213-4478"."""
    if is_stated(fact, facts_in(text)):
        return True
    is_long = fact.kind is FactKind.NUMBER and fact.value.isdigit() and len(fact.value) >= LONG_NUMBER_DIGITS
    return is_long and bool(_runs_of(list(fact.value), words(text)))


def _named(facts: Iterable[Fact]) -> tuple[str, ...]:
    return tuple(sorted(f"{fact.kind} {fact.value}" for fact in facts))


def _scalars(node: object) -> Iterable[str]:
    match node:
        case Mapping():
            for value in node.values():
                yield from _scalars(value)
        case list():
            for value in node:
                yield from _scalars(value)
        case None:
            return
        case _:
            yield str(node)
