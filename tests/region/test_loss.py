"""A node loses its power in the middle of calls, and a bare machine becomes that node, as the page says."""

import json
import shutil
import time
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import pytest

from bench.target import Trunk
from provisioning.machines.machine import Machine
from provisioning.machines.region import RegionRehearsal
from tests.region.calling import AT_ONCE, calls_going_on, until
from tests.region.evidence import (
    IDENTITY,
    Turn,
    copy_identity,
    fleet,
    is_in_rotation,
    turns_of,
    turns_on_disk,
    use_identity,
)
from tests.region.pages import Reader
from tests.region.use_identity import LET_IN

# A replica is at most about a second behind; on two cores for five machines, more.
REPLICATED_WITHIN_S = 5.0
VERIFY = (
    *("borough", "audit", "verify", "--json", "--records", "/var/lib/borough/records"),
    *("--keys", "/var/lib/borough/keys", "--master-key", "/etc/borough/secrets/master"),
)
MOST_S = 600.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Loss:
    """A node that was lost while it had calls, and was rebuilt. Of its turns: those that were `known` some seconds
    before, those that its disk had in the end, and those that the new machine has.
    """

    node: Machine
    identity: Path
    known: set[Turn]
    on_disk: set[Turn]
    restored: set[Turn]
    took_s: float
    lost_calls: list[str]
    answered: int


@pytest.fixture(scope="module")
def loss(region: RegionRehearsal, trunk: Trunk, nodes: list[Machine], tmp_path_factory: pytest.TempPathFactory) -> Loss:
    """The second node: the page names it."""
    node, kept = nodes[1], tmp_path_factory.mktemp("stolen")
    shutil.copytree(node.mounted / IDENTITY, kept / IDENTITY, symlinks=True)
    earlier = turns_of(node)
    with calls_going_on(trunk) as calls:
        assert until(lambda: len(turns_of(node) - earlier) >= AT_ONCE, within_s=120), "it gets no calls"
        known = turns_of(node)
        time.sleep(REPLICATED_WITHIN_S)
        cut_at = datetime.now(UTC)
        node.cut_power()
        on_disk = turns_on_disk(node)
        calls.until_more(3 * AT_ONCE, within_s=180)
    began = time.monotonic()
    node.replace()
    Reader(region=region).follow("rebuild-a-node")
    return Loss(
        node=node,
        identity=kept,
        known=known,
        on_disk=on_disk,
        restored=turns_of(node),
        took_s=time.monotonic() - began,
        lost_calls=calls.lost,
        answered=sum(trace.answered_after_s is not None and trace.answered_at > cut_at for trace in calls.traces),
    )


def test_siblings_answer_meanwhile(loss: Loss) -> None:
    """The calls that were on it ended with it, and no others."""
    assert loss.answered >= 2 * AT_ONCE
    assert len(loss.lost_calls) <= AT_ONCE, loss.lost_calls


def test_its_records_come_back_from_its_siblings(loss: Loss) -> None:
    """Every call and turn that was known seconds before; what the last second had is counted."""
    missing = loss.on_disk - loss.restored
    print(  # noqa: T201 - the figures that are asked for
        f"\nrebuilt in {loss.took_s:.0f} s; {len(loss.known)} calls and turns known before, {len(loss.on_disk)} on the"
        f" lost disk, {len(loss.restored)} restored, {len(missing)} missing: {sorted(missing)}"
    )
    assert loss.known
    assert loss.known - loss.restored == set()
    assert loss.took_s < MOST_S


def test_its_audit_chains_verify(loss: Loss) -> None:
    """With the region's keys at hand also their ends: the restore was entered."""
    reports = json.loads(loss.node.run(*VERIFY))
    assert {report["tenant"] for report in reports} == {tenant for tenant, _, _ in loss.known}
    assert {report["verdict"] for report in reports} == {"whole"}, reports


def test_it_is_back_and_answers(region: RegionRehearsal, trunk: Trunk, loss: Loss, hub: Machine) -> None:
    """The hub knows it, calls reach it, and they are recorded in what was restored."""
    assert is_in_rotation(loss.node)
    assert loss.node.place.name in fleet(region, hub)
    before = turns_of(loss.node)
    with calls_going_on(trunk) as calls:
        assert until(lambda: len(turns_of(loss.node) - before) > 1, within_s=120), "it gets no calls"
    assert calls.lost == []


def test_the_lost_machine_is_let_in_no_more(region: RegionRehearsal, loss: Loss, nodes: list[Machine]) -> None:
    """Whoever has its disk has certificates that the hub and every sibling refuse."""
    folder = copy_identity(loss.identity, nodes[0], "lost")
    answers = use_identity(region, folder, nodes[0], [nodes[0], nodes[2]])
    assert [where for where, answer in answers.items() if answer == LET_IN] == [], answers
    own = copy_identity(nodes[0].mounted, nodes[0], "own")
    assert set(use_identity(region, own, nodes[0], [nodes[0], nodes[2]]).values()) == {LET_IN}
    nodes[0].run("rm", "-r", folder, own)
