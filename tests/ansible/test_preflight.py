"""Wrong inventories stop in preflight, before anything is changed, with the remedy in the message."""

import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import pytest

from tests.ansible.place import made_in
from tests.ansible.wrong_inventories import ABSENT, Place, Vars, Wrong, right, wrong_inventories

ANSIBLE = Path(__file__).resolve().parents[2] / "ansible"
# Names of the cases, known before there is a place to run them in.
NOWHERE = Path("/nonexistent")
NO_PLACE = Place(
    **{name: NOWHERE for name in Place.__dataclass_fields__ if not name.endswith("_port")},
    hub_port=1,
    closed_port=2,
)
NAMES = [wrong.name for wrong in wrong_inventories(NO_PLACE)]
FACTS = '["!all", "!min", distribution, hardware, network, env, platform]'
PLAY = """\
- name: Preflight, {stage} alone
  hosts: {stage}:right
  connection: local
  gather_facts: {gathers}
  gather_subset: {facts}
  vars:
    ansible_python_interpreter: "{{{{ ansible_playbook_python }}}}"
  tasks:
    - name: Stage of preflight
      ansible.builtin.import_role:
        name: preflight
        tasks_from: {stage}.yml
"""
# Each run takes about half of the time, and one core.
RUNS = (("inventory",), ("store", "machine", "identity"))
STAGES = [stage for stages in RUNS for stage in stages]
RECAP = re.compile(r"^(\S+)\s+: ok=\d+\s+changed=(\d+)\s+unreachable=\d+\s+failed=(\d+)", re.MULTILINE)


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """What a host came to."""

    changed: int
    failed: int
    message: str


def host(values: Vars) -> Vars:
    return {key: value for key, value in values.items() if value is not ABSENT}


def inventory_of(place: Place) -> dict[str, object]:
    wrongs = wrong_inventories(place)
    stages = {
        stage: {"hosts": {w.name: host({**right(place), **w.change}) for w in wrongs if w.stage == stage}}
        for stage in STAGES
    }
    siblings = {
        str(sibling["name"]): {key: value for key, value in sibling.items() if key != "name"}
        for wrong in wrongs
        for sibling in wrong.siblings
    }
    nodes = {f"in-south-{n}": {"borough_node": f"in-south-{n}", "borough_address": f"10.77.0.1{n}"} for n in (1, 2)}
    return {"all": {"children": {
        "right": {"hosts": {"right": host(right(place))}},
        **stages,
        "nodes": {"hosts": nodes},
        "others": {"hosts": siblings},
    }}}  # fmt: skip


def run_cases(place: Place, root: Path) -> dict[str, Outcome]:
    """Every case is a host of its own, all of them this machine."""
    (root / "inventory.json").write_text(json.dumps(inventory_of(place)), encoding="utf-8")
    with ThreadPoolExecutor() as pool:
        found = list(pool.map(partial(run_stages, root), RUNS))
    rights = [outcomes.pop("right") for outcomes in found]
    right_of_all = Outcome(
        changed=sum(one.changed for one in rights),
        failed=sum(one.failed for one in rights),
        message=" ".join(one.message for one in rights),
    )
    return {name: outcome for outcomes in found for name, outcome in outcomes.items()} | {"right": right_of_all}


def run_stages(root: Path, stages: Sequence[str]) -> dict[str, Outcome]:
    """One run for the cases of these stages, and for the right inventory."""
    play, tree = root / f"{stages[0]}.yml", root / f"outcome-{stages[0]}"
    plays = [PLAY.format(stage=stage, facts=FACTS, gathers=str(stage == "machine").lower()) for stage in stages]
    play.write_text("".join(plays), encoding="utf-8")
    process = subprocess.run(
        [
            *(str(Path(sys.executable).with_name("ansible-playbook")), "--check", "--forks", "2"),
            *("-i", str(root / "inventory.json"), str(play)),
        ],
        cwd=ANSIBLE,
        env={
            **os.environ,
            "ANSIBLE_CALLBACKS_ENABLED": "tree",
            "ANSIBLE_CALLBACK_TREE_DIR": str(tree),
            "ANSIBLE_NOCOLOR": "1",
        },
        capture_output=True,
        text=True,
        timeout=280,
        check=False,
    )
    outcomes = {
        name: Outcome(changed=int(changed), failed=int(failed), message=message_of(tree / name))
        for name, changed, failed in RECAP.findall(process.stdout)
    }
    assert "right" in outcomes, process.stdout + process.stderr
    return outcomes


def message_of(path: Path) -> str:
    """The last that was heard of a host."""
    result = json.loads(path.read_text(encoding="utf-8"))
    failed = [item for item in result.get("results", []) if item.get("failed")]
    return str((failed[0] if failed else result).get("msg", ""))


@pytest.fixture(scope="module")
def outcomes(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Place, dict[str, Outcome]]]:
    root = tmp_path_factory.mktemp("preflight")
    with made_in(root) as place:
        yield place, run_cases(place, root)


def test_a_right_inventory_passes(outcomes: tuple[Place, dict[str, Outcome]]) -> None:
    """Else nothing is proven by wrong ones."""
    outcome = outcomes[1]["right"]
    assert (outcome.failed, outcome.changed) == (0, 0), outcome.message


def test_there_are_thirty_kinds_of_wrong_inventories() -> None:
    """And no name twice."""
    assert len(set(NAMES)) == len(NAMES) >= 30


@pytest.mark.parametrize("name", NAMES)
def test_a_wrong_inventory_stops_with_its_remedy(name: str, outcomes: tuple[Place, dict[str, Outcome]]) -> None:
    """Before anything was changed."""
    place, found = outcomes
    wrong: Wrong = next(wrong for wrong in wrong_inventories(place) if wrong.name == name)
    outcome = found[name]
    assert outcome.failed == 1, f"{name} passed"
    assert outcome.changed == 0
    said = " ".join(outcome.message.split())
    assert all(part in said for part in wrong.says), said
