"""What a check is, and how checks are run."""

import asyncio
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from enum import StrEnum

from contract.errors import BoroughError


class Outcome(StrEnum):
    """How a check ended."""

    PASSED = "passed"
    WARNED = "warning"  # calls do not need it
    FAILED = "failed"
    SKIPPED = "skipped"


class CheckFailedError(Exception):
    """A check found something wrong; `advice` is what to do."""

    def __init__(self, message: str, advice: str) -> None:
        super().__init__(message)
        self.advice = advice


class CheckWarningError(CheckFailedError):
    """Something is wrong that keeps no call away."""


class CheckSkippedError(Exception):
    """There is nothing to check on this machine; the message says why."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Check:
    """One question to this node. `ask` answers in a few words, or raises CheckFailedError, CheckWarningError,
    CheckSkippedError."""

    name: str
    within_s: float
    ask: Callable[[], Awaitable[str]]
    # What to do when it takes longer.
    advice: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """What came out of a check."""

    name: str
    outcome: Outcome
    detail: str
    advice: str
    took_s: float


async def run(checks: Sequence[Check], report: Callable[[Finding], None], patience: float = 1.0) -> list[Finding]:
    """One after the other: on a busy machine they would hinder each other. `report` hears of each at once.

    Each has `patience` times its time.
    """
    findings = []
    for check in checks:
        finding = await _run(check, check.within_s * patience)
        report(finding)
        findings.append(finding)
    return findings


async def _run(check: Check, within_s: float) -> Finding:
    began = time.monotonic()
    outcome, advice = Outcome.PASSED, ""
    try:
        async with asyncio.timeout(within_s):
            detail = await check.ask()
    except CheckSkippedError as reason:
        outcome, detail = Outcome.SKIPPED, str(reason)
    except CheckWarningError as warning:
        outcome, detail, advice = Outcome.WARNED, str(warning), warning.advice
    except CheckFailedError as failure:
        outcome, detail, advice = Outcome.FAILED, str(failure), failure.advice
    except BoroughError as error:
        outcome, detail, advice = Outcome.FAILED, str(error), error.hint
    except TimeoutError:
        outcome, detail, advice = Outcome.FAILED, f"no answer within {within_s:.0f} s", check.advice
    return Finding(
        name=check.name, outcome=outcome, detail=detail, advice=advice, took_s=round(time.monotonic() - began, 3)
    )
