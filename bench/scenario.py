"""Reads scenario files (bench/scenarios/README.md) into frozen records; every mistake names file, line and key.

Knows the format, not how a line is spoken or judged.
"""

import datetime as dt
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Literal

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from bench.errors import ScenarioError

DEFAULT_NOW = dt.datetime.fromisoformat("2026-11-24T10:30:00-05:00")
LONGEST_WAIT_S = 60.0


class Noise(StrEnum):
    """A sound into the agent's answer that is no turn."""

    COUGH = "cough"
    UH_HUH = "uh_huh"


class ExpectedAction(StrEnum):
    """How an answer leaves the call."""

    NONE = "none"
    ESCALATE = "escalate"
    END = "end"
    TOOL = "tool"


@dataclass(frozen=True, slots=True, kw_only=True)
class Expectations:
    """What the answer to one line must hold; None or empty: not judged."""

    contains_all: tuple[str, ...] = ()
    contains_any: tuple[str, ...] = ()
    not_contains: tuple[str, ...] = ()
    facts: tuple[str, ...] = ()
    action: ExpectedAction | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Say:
    """The caller speaks: `text` synthesised, or the words of `wav`."""

    text: str
    wav: Path | None = None
    barge_in_after_s: float | None = None
    noise: Noise | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Press:
    """The caller presses keys."""

    digits: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Wait:
    """The caller says nothing."""

    seconds: float


Act = Say | Press | Wait


@dataclass(frozen=True, slots=True, kw_only=True)
class Line:
    """One act of the caller and what must come of it."""

    act: Act
    expect: Expectations = field(default_factory=Expectations)


@dataclass(frozen=True, slots=True, kw_only=True)
class Scenario:
    """One call: who is rung, what the caller does."""

    tenant: str
    id: str
    tags: tuple[str, ...]
    lines: tuple[Line, ...]
    now: dt.datetime = DEFAULT_NOW
    # What the services behind the agent's tools would answer: facts that the agent may say.
    tool_texts: tuple[str, ...] = ()


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid")


class _ExpectDocument(_Strict):
    intent: str | None = None
    item: str | None = None
    contains_all: list[str] = []
    contains_any: list[str] = []
    not_contains: list[str] = []
    facts: list[str] = []
    action: ExpectedAction | None = None

    def expectations(self) -> Expectations:
        return Expectations(
            contains_all=tuple(self.contains_all),
            contains_any=tuple(self.contains_any),
            not_contains=tuple(self.not_contains),
            facts=tuple(self.facts),
            action=self.action,
        )


class _LineDocument(_Strict):
    say: str | None = None
    text: str | None = None
    wav: str | None = None
    digits: Annotated[str, Field(pattern=r"^[0-9*#]{1,32}$")] | None = None
    wait: Annotated[float, Field(gt=0, le=LONGEST_WAIT_S)] | None = None
    barge_in_after_s: Annotated[float, Field(gt=0, le=30)] | None = None
    noise: Noise | None = None
    expect: _ExpectDocument = _ExpectDocument()

    @model_validator(mode="after")
    def _is_one_act(self) -> "_LineDocument":
        acts = [name for name in ("say", "wav", "digits", "wait") if getattr(self, name) is not None]
        if len(acts) != 1:
            raise ValueError(f"a line is exactly one of say, wav, digits, wait (got {', '.join(acts) or 'none'})")
        if acts[0] in {"digits", "wait"} and (self.barge_in_after_s is not None or self.noise is not None):
            raise ValueError("barge_in_after_s and noise go with say or wav only")
        return self

    def act(self, folder: Path) -> Act:
        if self.digits is not None:
            return Press(digits=self.digits)
        if self.wait is not None:
            return Wait(seconds=self.wait)
        return Say(
            text=self.say or self.text or "",
            wav=folder / self.wav if self.wav is not None else None,
            barge_in_after_s=self.barge_in_after_s,
            noise=self.noise,
        )


class _ScenarioDocument(_Strict):
    id: Annotated[str, Field(pattern=r"^[a-z0-9]+(-[a-z0-9]+)*$")]
    tags: list[str] = []
    lines: Annotated[list[_LineDocument], Field(min_length=1)]
    text_only: bool = False
    audio_only: bool = False
    tools: dict[str, dict[str, str | int | float | bool]] = {}
    now: dt.datetime | None = None
    kind: Literal["Scenario"] | None = None


class _FileDocument(_Strict):
    tenant: str
    now: dt.datetime = DEFAULT_NOW
    scenarios: Annotated[list[_ScenarioDocument], Field(min_length=1)]


def load_scenarios(path: Path) -> tuple[Scenario, ...]:
    """The scenarios of a file that can be spoken. Raises ScenarioError.

    Left out: `text_only` ones, and those whose `tools` answer (a running region has real services or none).
    """
    tree = _composed(path)
    try:
        document = _FileDocument.model_validate(yaml.safe_load(path.read_text(encoding="utf-8")))
    except ValidationError as error:
        problems = [
            f"{path}:{_line_of(tree, problem['loc'])}: {'.'.join(map(str, problem['loc']))}: {problem['msg']}"
            for problem in error.errors()
        ]
        raise ScenarioError("\n".join(problems)) from error
    _refuse_doubles(path, document)
    return tuple(
        _scenario(document, scenario, path.parent) for scenario in document.scenarios if not scenario.text_only
    )


def _composed(path: Path) -> yaml.Node:
    try:
        tree = yaml.compose(path.read_text(encoding="utf-8"), Loader=yaml.SafeLoader)
    except (OSError, UnicodeDecodeError) as error:
        raise ScenarioError(f"{path} cannot be read: {error}") from error
    except yaml.MarkedYAMLError as error:
        line = error.problem_mark.line + 1 if error.problem_mark else 1
        raise ScenarioError(f"{path}:{line}: {error.problem}") from error
    if tree is None:
        raise ScenarioError(f"{path}:1: the file is empty")
    return tree


def _line_of(tree: yaml.Node, location: tuple[int | str, ...]) -> int:
    """The line of the deepest part of a location that exists in the file."""
    node, line = tree, tree.start_mark.line + 1
    for part in location:
        if isinstance(node, yaml.MappingNode):
            entry = next(((key, value) for key, value in node.value if key.value == part), None)
            if entry is None:
                return line
            line, node = entry[0].start_mark.line + 1, entry[1]
        elif isinstance(node, yaml.SequenceNode) and isinstance(part, int) and part < len(node.value):
            node = node.value[part]
            line = node.start_mark.line + 1
        else:
            return line
    return line


def _refuse_doubles(path: Path, document: _FileDocument) -> None:
    ids = [scenario.id for scenario in document.scenarios]
    doubles = sorted({one for one in ids if ids.count(one) > 1})
    if doubles:
        raise ScenarioError(f"{path}: scenarios: id used twice: {', '.join(doubles)}")


def _scenario(document: _FileDocument, scenario: _ScenarioDocument, folder: Path) -> Scenario:
    return Scenario(
        tenant=document.tenant,
        id=scenario.id,
        tags=tuple(scenario.tags),
        lines=tuple(Line(act=line.act(folder), expect=line.expect.expectations()) for line in scenario.lines),
        now=scenario.now or document.now,
        tool_texts=tuple(str(value) for answer in scenario.tools.values() for value in answer.values()),
    )
