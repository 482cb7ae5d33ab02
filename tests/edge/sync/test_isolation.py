"""A node that hears no majority of its region's servers takes no new calls until it does, by a clock and for real."""

import asyncio
import json
import os
import signal
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from itertools import count
from pathlib import Path

import pytest
from prometheus_client import CollectorRegistry

from contract.alarms import AlarmCode
from edge.sync.alarms import Alarms
from edge.sync.connection import NatsLink
from edge.sync.cordon import Cordon
from edge.sync.folder import SyncFolder
from edge.sync.isolation import FIRST_AFTER_S, LOOK_EVERY_S, SETTLES_S, Isolation, ServerWord, word_of
from edge.sync.lock import RegionLock
from edge.sync.node_parts import isolation_watch
from edge.sync.settings import HubSection, SyncSettings
from provisioning.local.process import Service
from tests.edge.sync.hub import REGION
from tests.edge.sync.played import settings_of
from tests.nats_network import Network, eventually, nats_network

ATTEMPTS = count()
A, B, C, D = "in-south-1", "in-south-2", "in-south-3", "in-south-4"


class Clock:
    """Plays time in looks; who answers is told for each stretch of it."""

    def __init__(self, own: str = A, *, is_isolated: bool = False) -> None:
        self.now = 100.0
        self.isolation = Isolation(
            own=own, storing=3, isolated_after_s=2.0, rejoined_after_s=5.0, is_isolated=is_isolated
        )

    def play(
        self,
        seconds: float,
        answering: Iterable[str],
        *,
        leader: str = B,
        storing: Iterable[str] = (A, B, C),
    ) -> float | None:
        """Seconds until the judgement changed; None if it did not."""
        was, changed, names = self.isolation.is_isolated, None, list(answering)
        for look in range(round(seconds / LOOK_EVERY_S)):
            for name in names:
                word = ServerWord(name=name, stores=name in set(storing), leader=leader)
                self.isolation.hear(word, self.now)
            self.now += LOOK_EVERY_S
            if self.isolation.judge(self.now) != was and changed is None:
                changed = (look + 1) * LOOK_EVERY_S
        return changed


def test_who_hears_no_majority_is_isolated_in_about_two_seconds() -> None:
    clock = Clock()
    assert clock.play(60, [A, B, C]) is None
    changed = clock.play(10, [A])
    assert changed is not None
    assert 1.5 <= changed <= 2.5


@pytest.mark.parametrize("answering", [[A, B], [A, C], [A, B, C]])
def test_a_server_more_or_less_changes_nothing(answering: list[str]) -> None:
    clock = Clock()
    assert clock.play(10, [A, B, C]) is None
    assert clock.play(60, answering, leader="") is None


def test_without_a_word_of_its_own_server_a_node_stays_as_it_was() -> None:
    clock = Clock()
    clock.play(10, [A, B, C])
    assert clock.play(60, [B]) is None
    assert clock.play(60, []) is None
    out = Clock(is_isolated=True)
    assert out.play(60, [B, C]) is None
    assert out.isolation.is_isolated


def test_a_late_event_loop_isolates_nobody() -> None:
    """The own server's answer is read first; those of the others are next in the queue."""
    clock = Clock()
    clock.play(10, [A, B, C])
    for _ in range(10):
        clock.now += 30
        assert clock.play(LOOK_EVERY_S, [A]) is None
        assert clock.play(LOOK_EVERY_S, [A, B, C]) is None


def test_a_loop_that_is_always_late_comes_back_all_the_same() -> None:
    clock = Clock(is_isolated=True)
    for _ in range(10):
        clock.now += 3
        assert clock.play(LOOK_EVERY_S, [A, B, C]) is None
    clock.now += 3
    assert clock.play(LOOK_EVERY_S, [A, B, C]) is not None


def test_a_server_that_is_started_again_has_time_to_meet_the_others() -> None:
    clock = Clock()
    clock.play(10, [A, B, C])
    clock.isolation.forget_own()
    assert clock.play(4, [B, C]) is None
    assert clock.play(SETTLES_S - 0.5, [A]) is None
    assert clock.play(10, [A, B, C]) is None
    clock.isolation.forget_own()
    assert clock.play(4, [B, C]) is None
    changed = clock.play(10, [A])
    assert changed is not None
    assert SETTLES_S <= changed <= SETTLES_S + 1


def test_it_comes_back_with_a_majority_and_a_leader_that_last() -> None:
    clock = Clock(is_isolated=True)
    assert clock.play(60, [A, B, C], leader="") is None
    assert clock.play(60, [A, B], leader=C) is None
    assert clock.play(4, [A, B]) is None
    assert clock.play(2, [A]) is None
    assert clock.play(4.5, [A, B]) is None
    assert clock.play(2, [A, B]) is not None


def test_a_region_that_starts_has_time_to_meet() -> None:
    clock = Clock()
    assert clock.play(FIRST_AFTER_S - 1, [A]) is None
    assert clock.play(60, [A, B, C]) is None
    alone = Clock()
    assert alone.play(FIRST_AFTER_S + 5, [A]) is not None


def test_a_fourth_node_counts_those_that_store() -> None:
    """With B and C it can decide although A is away; with A alone it cannot."""
    clock = Clock(D)
    assert clock.play(10, [A, B, C, D]) is None
    assert clock.play(60, [B, C, D]) is None
    assert clock.play(10, [A, D]) is not None


def test_a_server_of_another_cluster_is_none_of_the_region() -> None:
    answer = {"server": {"name": "hub-1", "domain": "hub"}, "statsz": {}}
    assert word_of(json.dumps(answer).encode(), REGION) is None
    ours = {
        "server": {"name": A, "domain": REGION, "cluster": REGION},
        "statsz": {"jetstream": {"meta": {"leader": B}}},
    }
    assert word_of(json.dumps(ours).encode(), REGION) == ServerWord(name=A, stores=True, leader=B)


@dataclass
class Node:
    """A node of the region, as far as isolation goes."""

    cordon: Cordon
    alarms: Alarms
    lock: RegionLock
    service: Service

    @property
    def is_out(self) -> bool:
        return self.cordon.is_up

    async def can_decide(self) -> bool:
        """Whether a write with three copies is acknowledged to this node."""
        # A key of its own: of a write that was not acknowledged in time nobody knows whether it was made.
        async with self.lock.taken(f"test.{next(ATTEMPTS)}") as is_taken:
            return is_taken

    def stop(self) -> None:
        """Its server stands still: nobody is told."""
        os.kill(self.service.pid, signal.SIGSTOP)

    def go_on(self) -> None:
        os.kill(self.service.pid, signal.SIGCONT)


def impatient(network: Network, root: Path, number: int, *, copies: int) -> SyncSettings:
    settings = settings_of(network, root, number, hub=HubSection(trusted_keys=(root,)))
    nats = settings.nats.model_copy(update={"mirror_replicas": copies})
    watch = settings.watch.model_copy(update={"rejoined_after_s": 1.0})
    return settings.model_copy(update={"nats": nats, "watch": watch})


@asynccontextmanager
async def watching(network: Network, root: Path, *, copies: int) -> AsyncIterator[list[Node]]:
    """Every node of the region with its watch."""
    nodes = []
    async with asyncio.TaskGroup() as tasks:
        running = []
        for number, server in enumerate(network.deployment.topology.region(REGION).nodes, 1):
            settings = impatient(network, root, number, copies=copies)
            folder = SyncFolder(settings.sync.directory, node=server.name, bundles_kept=2)
            folder.prepare()
            alarms = Alarms(CollectorRegistry())
            own = NatsLink("own", settings.nats, settings.nats.system)
            watch = isolation_watch(settings, folder, own, alarms)
            agent = NatsLink("agent", settings.nats, settings.nats.agent)
            running += [tasks.create_task(work.run()) for work in (own, agent, watch)]
            lock = RegionLock(agent, server.name, replicas=copies)
            service = network.services[network.deployment.instance(server).directory.name]
            nodes.append(Node(Cordon.of(None, folder.root), alarms, lock, service))
        try:
            yield nodes
        finally:
            for node in nodes:
                node.go_on()
            # nats-py swallows a cancellation that meets it while it flushes.
            while pending := [task for task in running if not task.done()]:
                for task in pending:
                    task.cancel()
                await asyncio.wait(pending, timeout=0.2)


# With `make region-test`: twenty seconds of real time.
@pytest.mark.region
async def test_on_real_servers_the_minority_goes_out_and_comes_back_by_itself(tmp_path: Path) -> None:
    """Two of the three servers that store fall silent: the first node is out, and the fourth, whose server stores
    nothing. A server that is started again costs nobody anything."""
    async with nats_network(tmp_path, {REGION: 4}) as network, watching(network, tmp_path, copies=3) as nodes:
        first, second, third, fourth = nodes
        await eventually(first.can_decide, within_s=30.0)
        # The region is whole; one server is started again.
        os.kill(third.service.pid, signal.SIGKILL)

        async def is_back() -> bool:
            assert not any(node.is_out for node in nodes)
            return third.service.restarts == 1

        await eventually(is_back, within_s=20.0)
        assert not any(node.is_out for node in nodes)
        # Those whose own servers hang know nothing.
        second.stop()
        third.stop()

        async def is_out() -> bool:
            return first.is_out and fourth.is_out

        await eventually(is_out, within_s=30.0)
        assert first.alarms.raised() == (AlarmCode.ISOLATED,)
        assert [node.is_out for node in nodes] == [True, False, False, True]
        second.go_on()
        third.go_on()

        async def are_in() -> bool:
            return not any(node.is_out for node in nodes)

        await eventually(are_in, within_s=40.0)
        await eventually(first.can_decide, within_s=30.0)
        assert first.alarms.raised() == ()


async def test_where_streams_have_one_copy_nobody_goes_out(tmp_path: Path) -> None:
    """A node alone, and both of two: what an earlier size of the region left behind is cleared away."""
    async with nats_network(tmp_path, {REGION: 1}) as network:
        left = tmp_path / "n/isolated"
        left.parent.mkdir()
        left.touch()
        async with watching(network, tmp_path, copies=1) as (node,):

            async def is_in() -> bool:
                return not node.is_out

            await eventually(is_in)
            assert node.alarms.raised() == ()
