"""Answers are judged by what was heard: tolerant of misheard words, strict with numbers."""

from pathlib import Path

import numpy as np
import pytest

from bench.judge import failed_expectations, find_sound, is_known, known_facts, texts_of
from bench.scenario import Expectations
from edge.conversation.facts import facts_in
from tests.bench.test_recording import RATE_HZ, line, mu_law, voice


@pytest.mark.parametrize(
    ("expect", "heard"),
    [
        (Expectations(contains_all=("appointment",)), ("I'll book an apointment.", "")),
        (Expectations(contains_any=("noon", "twelve")), ("We close at 12.", "We close at 12.")),
        (Expectations(contains_any=("step free",)), ("The branch has stepped free access.", "")),
        (Expectations(facts=("5:30 PM",)), ("Until five thirty p.m. on Fridays.", "")),
        (Expectations(facts=("$79.99",)), ("", "They cost $79.99.")),
        (Expectations(not_contains=("sorry",)), ("Sorry, I missed that", "Lorry, I missed that")),
        (Expectations(facts=("Main Street",)), ("We are at Main street.", "")),
        (Expectations(facts=("5559876543",)), ("your number is 555-987-6543. Is that right?", "")),
        (Expectations(facts=("318027",)), ("Order 3180 two seven, is that right?", "")),
        (Expectations(contains_all=("Bluebird 700",)), ("the blue bert 700 and the Starling", "")),
        (Expectations(contains_all=("Bluebird 700",)), ("the BlueBird seven hundred", "")),
    ],
)
def test_what_was_said_passes(expect: Expectations, heard: tuple[str, ...]) -> None:
    """One recogniser is enough to hear something, both are needed to convict."""
    assert failed_expectations(expect, heard) == []


@pytest.mark.parametrize(
    ("expect", "heard"),
    [
        (Expectations(contains_all=("appointment",)), ("We are closed.", "We are closed.")),
        (Expectations(facts=("5:30 PM",)), ("Until five p.m.", "Until 5:00 p.m.")),
        (Expectations(facts=("$79.99",)), ("They cost $79.", "They cost $97.99.")),
        (Expectations(not_contains=("sorry",)), ("Sorry", "I'm sorry")),
        (Expectations(contains_any=("noon", "twelve")), ("", "")),
        (Expectations(facts=("5559876543",)), ("your number is 555-987-6542.", "555-987-65433")),
        (Expectations(contains_all=("Bluebird 700",)), ("the bluebird 500", "the bluebird")),
        (Expectations(contains_all=("Bluebird 700",)), ("it costs 700", "the washing machine 700")),
    ],
)
def test_what_was_not_said_fails(expect: Expectations, heard: tuple[str, ...]) -> None:
    """A missing phrase, a wrong number and a forbidden word fail."""
    assert failed_expectations(expect, heard) != []


def test_only_known_facts_may_be_said(tmp_path: Path) -> None:
    """Facts of the documents and pieces of long numbers are known, others are not."""
    (tmp_path / "agent.yaml").write_text("answer: Call 555 0190 until five p.m.\nfee: '$4.50'\n", encoding="utf-8")
    (tmp_path / "stock.csv").write_text("id,price\nx,79.99\n", encoding="utf-8")
    known = known_facts(texts_of(tmp_path))

    def strange(text: str) -> list[str]:
        return [fact.value for fact in facts_in(text) if not is_known(fact, known)]

    assert strange("It's $79.99, or $4.50, until 5 PM; call five five five, zero one nine zero.") == []
    assert strange("It's $79.95") == ["79.95"]


def test_the_desk_is_known_by_its_sound() -> None:
    """A played greeting is found where it is, through noise and mu-law, and not where it is not."""
    greeting = voice(1.0, -20, 9)
    recording = line(8.0, [], noise_dbfs=-50)
    assert find_sound(greeting, recording, RATE_HZ) is None
    recording[3 * RATE_HZ : 3 * RATE_HZ + len(greeting)] += greeting
    assert find_sound(greeting, mu_law(recording), RATE_HZ) == pytest.approx(3.0, abs=0.002)
    assert find_sound(greeting, np.zeros(10, np.int16), RATE_HZ) is None
