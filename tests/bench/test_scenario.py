"""Scenario files are read whole or refused with file, line and key."""

from pathlib import Path

import pytest

from bench.errors import ScenarioError
from bench.scenario import ExpectedAction, Noise, Press, Say, Wait, load_scenarios

GOOD = """\
tenant: harbour-bank
scenarios:
  - id: saturday-follow-up
    tags: [knowledge]
    lines:
      - say: When do you close on Friday?
        expect: {item: hours-friday, facts: ["5:30 PM"], action: none}
      - say: And Saturday?
        barge_in_after_s: 1.2
        noise: uh_huh
        expect: {contains_any: [noon, twelve]}
      - digits: "4277#"
      - wait: 2.5
      - wav: hello.wav
  - id: for-readers
    text_only: true
    lines: [{say: Hello}]
"""


def write(tmp_path: Path, text: str) -> Path:
    path = tmp_path / "bank.yaml"
    path.write_text(text, encoding="utf-8")
    return path


def test_a_file_becomes_scenarios(tmp_path: Path) -> None:
    """Every key arrives; what only the text test can play is left out."""
    (scenario,) = load_scenarios(write(tmp_path, GOOD))
    acts = [line.act for line in scenario.lines]
    assert (scenario.tenant, scenario.id) == ("harbour-bank", "saturday-follow-up")
    assert acts[1] == Say(text="And Saturday?", barge_in_after_s=1.2, noise=Noise.UH_HUH)
    assert acts[2:4] == [Press(digits="4277#"), Wait(seconds=2.5)]
    assert acts[4] == Say(text="", wav=tmp_path / "hello.wav")
    assert scenario.lines[0].expect.action is ExpectedAction.NONE
    assert scenario.lines[0].expect.facts == ("5:30 PM",)


@pytest.mark.parametrize(
    ("old", "new", "where", "what"),
    [
        ("barge_in_after_s: 1.2", "barge_in_after: 1.2", ":9:", "barge_in_after"),
        ("wait: 2.5", "wait: 250", ":13:", "wait"),
        ('digits: "4277#"', 'digits: "abc"', ":12:", "digits"),
        ("noise: uh_huh", "noise: sneeze", ":10:", "cough"),
        ("wav: hello.wav", "{wav: a.wav, say: b}", ":14:", "exactly one of"),
        ("id: for-readers", "id: saturday-follow-up", "bank.yaml", "twice"),
        ("tenant: harbour-bank", "tenants: x", "bank.yaml:1", "tenant"),
        ("action: none}", "action: none", "bank.yaml:", "expected"),
    ],
)
def test_a_mistake_is_named(tmp_path: Path, old: str, new: str, where: str, what: str) -> None:
    """The error has the file, the line and the key or the allowed values."""
    with pytest.raises(ScenarioError) as caught:
        load_scenarios(write(tmp_path, GOOD.replace(old, new)))
    assert where in str(caught.value)
    assert what in str(caught.value)


def test_files_that_hold_nothing_are_refused(tmp_path: Path) -> None:
    """An empty and a missing file are errors too."""
    with pytest.raises(ScenarioError, match="empty"):
        load_scenarios(write(tmp_path, ""))
    with pytest.raises(ScenarioError, match=r"missing\.yaml"):
        load_scenarios(tmp_path / "missing.yaml")
