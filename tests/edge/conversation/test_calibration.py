"""A stated confidence of 80 % is right about 80 times in 100."""

from datetime import date
from pathlib import Path

from edge.call.ports import Embedder
from edge.conversation.calibrate import PARAPHRASES, expected_calibration_error, observe
from edge.conversation.understanding import load_calibration

TODAY = date(2026, 11, 24)


async def test_confidence_is_calibrated_on_held_out_lines(embedder: Embedder, vectors: Path) -> None:
    """The expected calibration error of the lines that were not fitted is small, and most are understood."""
    held_out = [one for one in await observe(embedder, vectors, TODAY) if one.is_held_out]
    calibration = load_calibration()
    assert expected_calibration_error(calibration, held_out) <= 0.08
    answerable = [one for one in held_out if one.wanted is not None]
    assert sum(one.is_right for one in answerable) / len(answerable) >= 0.88


async def test_questions_nobody_can_answer_are_improbable(embedder: Embedder, vectors: Path) -> None:
    """At most one in twenty questions out of scope reaches the confidence of an answer."""
    foreign = [one for one in await observe(embedder, vectors, TODAY) if one.wanted is None]
    calibration = load_calibration()
    answered = [one.text for one in foreign if calibration.probability(one.features) >= 0.6]
    assert len(foreign) >= 80
    assert len(answered) / len(foreign) <= 0.05, answered


def test_the_coefficients_say_where_they_come_from() -> None:
    """They were fitted by the script on the paraphrases."""
    assert PARAPHRASES.name in load_calibration().provenance
