"""Who runs what: states from messages, and messages over a real nats-server."""

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Callable, Collection
from dataclasses import dataclass
from pathlib import Path

import pytest
from nats.aio.client import Client
from nats.errors import Error as NatsError
from nats.errors import NoRespondersError

from contract.subjects import STATE_STREAM, ack, health, ping
from contract.uplink_pb2 import (
    REFUSAL_DIGEST,
    REFUSAL_DOCUMENT,
    REFUSAL_UNSPECIFIED,
    SUBJECT_BUNDLE,
    SUBJECT_KNOWLEDGE,
    Ack,
    Health,
    KnowledgeVersion,
    Refusal,
)
from controlplane.fleet.listening import FleetListener
from controlplane.fleet.refused import refused_documents
from controlplane.fleet.states import FORGOTTEN_AFTER_MS, FleetStates, Wanted
from controlplane.metrics import HubMetrics
from controlplane.streams import ensure_streams
from tests.controlplane.nats_server import NatsServer

PERIOD_S = 2.0
NOW_MS = 1_795_420_000_000


def a_health(at_ms: int = NOW_MS, bundle: int = 3, knowledge: int = 7, node: str = "in-south-1") -> Health:
    return Health(
        region="in-south",
        node=node,
        at_ms=at_ms,
        bundle_version=bundle,
        knowledge=[KnowledgeVersion(tenant="shop", version=knowledge, created_at_ms=NOW_MS)],
    )


def an_ack(version: int, refusal: Refusal.ValueType = REFUSAL_UNSPECIFIED, at_ms: int = NOW_MS) -> Ack:
    return Ack(
        region="in-south", node="in-south-1", subject=SUBJECT_BUNDLE, version=version, refusal=refusal, at_ms=at_ms
    )


WANTED = Wanted(bundle_version=3, knowledge={"shop": 7})


def states() -> FleetStates:
    return FleetStates(health_period_s=PERIOD_S)


def test_a_node_that_runs_what_it_should_is_neither_drifted_nor_silent() -> None:
    fleet = states()
    fleet.take_health(a_health(), heard_at_ms=1000)
    (node,) = fleet.nodes("in-south", WANTED, now_ms=2000)
    assert (node.age_ms, node.is_silent, node.is_drifted, node.refused) == (1000, False, False, None)


def test_a_node_is_silent_after_three_periods() -> None:
    fleet = states()
    fleet.take_health(a_health(), heard_at_ms=1000)
    assert not fleet.nodes("in-south", WANTED, now_ms=7000)[0].is_silent
    assert fleet.nodes("in-south", WANTED, now_ms=7001)[0].is_silent


def test_another_bundle_or_knowledge_is_drift() -> None:
    for wrong in (a_health(bundle=2), a_health(bundle=4), a_health(knowledge=6)):
        fleet = states()
        fleet.take_health(wrong, heard_at_ms=1000)
        assert fleet.nodes("in-south", WANTED, now_ms=1000)[0].is_drifted


def test_an_older_message_changes_nothing() -> None:
    fleet = states()
    fleet.take_health(a_health(), heard_at_ms=2000)
    fleet.take_health(a_health(bundle=1), heard_at_ms=1999)
    assert fleet.nodes("in-south", WANTED, now_ms=2000)[0].health.bundle_version == 3


def test_a_node_whose_clock_was_wrong_is_heard_again_at_once() -> None:
    """What is newest is told by the hub's stream, not by the node's clock."""
    fleet, wrong_ms = states(), NOW_MS + 10 * 365 * 24 * 3_600_000
    fleet.take_health(a_health(at_ms=wrong_ms, bundle=2), heard_at_ms=NOW_MS)
    fleet.take_ack(an_ack(2, REFUSAL_DIGEST, at_ms=wrong_ms), heard_at_ms=NOW_MS)
    fleet.take_health(a_health(bundle=3), heard_at_ms=NOW_MS + 5000)
    fleet.take_ack(an_ack(3), heard_at_ms=NOW_MS + 5001)
    (node,) = fleet.nodes("in-south", WANTED, now_ms=NOW_MS + 6000)
    assert (node.health.bundle_version, node.age_ms, node.is_silent) == (3, 1000, False)
    fleet.take_ack(an_ack(4, at_ms=wrong_ms), heard_at_ms=NOW_MS + 5002)
    fleet.take_health(a_health(bundle=3), heard_at_ms=NOW_MS + 7000)
    assert not fleet.nodes("in-south", WANTED, now_ms=NOW_MS + 7000)[0].is_drifted
    fleet.take_ack(an_ack(4, REFUSAL_DIGEST), heard_at_ms=NOW_MS + 7001)
    (node,) = fleet.nodes("in-south", Wanted(bundle_version=4), now_ms=NOW_MS + 7002)
    assert node.refused is not None


def test_an_ack_that_waited_for_the_link_does_not_outdo_the_health_that_overtook_it() -> None:
    fleet = states()
    fleet.take_health(a_health(bundle=3), heard_at_ms=NOW_MS)
    fleet.take_ack(an_ack(2, at_ms=NOW_MS - 60_000), heard_at_ms=NOW_MS + 1)
    assert not fleet.nodes("in-south", WANTED, now_ms=NOW_MS + 1)[0].is_drifted


def test_a_node_that_was_taken_down_is_forgotten_after_a_day() -> None:
    fleet = states()
    fleet.take_health(a_health(node="in-south-2"), heard_at_ms=NOW_MS)
    fleet.take_ack(an_ack(3), heard_at_ms=NOW_MS + 10)
    assert len(fleet.nodes("in-south", WANTED, now_ms=NOW_MS + FORGOTTEN_AFTER_MS)) == 2
    (left,) = fleet.nodes("in-south", WANTED, now_ms=NOW_MS + FORGOTTEN_AFTER_MS + 1)
    assert left.node == "in-south-1"
    assert fleet.regions(now_ms=NOW_MS + FORGOTTEN_AFTER_MS + 10) == {"in-south"}
    assert fleet.regions(now_ms=NOW_MS + FORGOTTEN_AFTER_MS + 11) == set()


def test_a_refusal_counts_while_what_was_refused_is_wanted() -> None:
    fleet = states()
    fleet.take_health(a_health(bundle=2), heard_at_ms=1000)
    fleet.take_ack(an_ack(3, REFUSAL_DIGEST), heard_at_ms=1000)
    (node,) = fleet.nodes("in-south", WANTED, now_ms=1000)
    assert node.refused is not None
    assert node.refused.refusal == REFUSAL_DIGEST
    assert fleet.nodes("in-south", Wanted(bundle_version=4), now_ms=1000)[0].refused is None
    fleet.take_ack(an_ack(3, at_ms=NOW_MS + 1), heard_at_ms=NOW_MS + 1)
    assert fleet.nodes("in-south", WANTED, now_ms=1000)[0].refused is None


def test_an_ack_tells_at_once_what_health_will_tell_later() -> None:
    fleet = states()
    fleet.take_health(a_health(bundle=2), heard_at_ms=NOW_MS)
    fleet.take_ack(an_ack(3, at_ms=NOW_MS + 1), heard_at_ms=NOW_MS + 1)
    (node,) = fleet.nodes("in-south", WANTED, now_ms=NOW_MS + 1)
    assert not node.is_drifted
    assert node.health.bundle_version == 3
    fleet.take_health(a_health(at_ms=NOW_MS + 2, bundle=2), heard_at_ms=NOW_MS + 2)
    (node,) = fleet.nodes("in-south", WANTED, now_ms=NOW_MS + 2)
    assert node.is_drifted


def test_a_refusal_of_knowledge_is_kept_beside_acks_of_bundles() -> None:
    fleet = states()
    fleet.take_health(a_health(knowledge=6), heard_at_ms=1000)
    refusal = Ack(
        region="in-south",
        node="in-south-1",
        subject=SUBJECT_KNOWLEDGE,
        tenant="shop",
        version=7,
        refusal=REFUSAL_DIGEST,
        at_ms=NOW_MS,
    )
    fleet.take_ack(refusal, heard_at_ms=1000)
    fleet.take_ack(an_ack(3), heard_at_ms=1000)
    node = fleet.nodes("in-south", WANTED, now_ms=1000)[0]
    assert node.refused == refusal


async def until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 5
    while not condition():
        assert time.monotonic() < deadline, "did not happen in time"
        await asyncio.sleep(0.01)


def seen(fleet: FleetStates) -> int:
    return len(fleet.nodes("in-south", WANTED, now_ms=0))


class Names:
    """One region with one tenant, which has one agent."""

    def tenants(self, region: str) -> Collection[str]:
        return {"shop"} if region == "in-south" else set()

    def owners(self, kind: str, name: str) -> Collection[str]:
        return {"shop"} if (kind, name) == ("Agent", "line") else set()


@dataclass(frozen=True, slots=True, kw_only=True)
class Hearing:
    """A listener that runs."""

    nats: Client
    fleet: FleetStates
    metrics: HubMetrics

    def refused(self, kind: str, region: str = "in-south") -> float:
        value = self.metrics.registry.get_sample_value(
            "borough_hub_states_refused_total", {"region": region, "kind": kind}
        )
        return value or 0.0


@contextlib.asynccontextmanager
async def hearing(nats: Client) -> AsyncIterator[Hearing]:
    metrics, fleet = HubMetrics.create(), states()
    async with asyncio.TaskGroup() as tasks:
        listening = tasks.create_task(FleetListener(nats, fleet, Names(), metrics).run())
        yield Hearing(nats=nats, fleet=fleet, metrics=metrics)
        listening.cancel()


async def test_what_was_said_before_the_start_and_after_it_is_heard(nats: Client) -> None:
    await ensure_streams(nats, ["in-south"])
    jetstream = nats.jetstream()
    await jetstream.publish(health("in-south", "in-south-1"), a_health(bundle=2).SerializeToString())
    await jetstream.publish(ack("in-south", "in-south-1"), an_ack(1, at_ms=NOW_MS - 10).SerializeToString())
    await jetstream.publish(ack("in-south", "in-south-1"), an_ack(3, REFUSAL_DIGEST).SerializeToString())
    async with hearing(nats) as heard:
        fleet = heard.fleet
        await until(lambda: seen(fleet) == 1 and fleet.nodes("in-south", WANTED, now_ms=0)[0].refused is not None)
        await jetstream.publish(health("in-south", "in-south-2"), a_health(node="in-south-2").SerializeToString())
        await until(lambda: seen(fleet) == 2)


async def test_a_server_that_comes_back_is_heard_again(nats_server: NatsServer, nats: Client) -> None:
    await ensure_streams(nats, ["in-south"])
    metrics, fleet = HubMetrics.create(), states()
    listener = FleetListener(nats, fleet, Names(), metrics)
    async with asyncio.TaskGroup() as tasks:
        listening = tasks.create_task(listener.run())
        await nats.jetstream().publish(health("in-south", "in-south-1"), a_health().SerializeToString())
        await until(lambda: seen(fleet) == 1)
        await nats_server.stop()
        await nats_server.start()
        await until(lambda: nats.is_connected)
        listener.reconnected()
        await until_published(nats, health("in-south", "in-south-2"), a_health(node="in-south-2").SerializeToString())
        await until(lambda: seen(fleet) == 2)
        listening.cancel()


async def until_published(nats: Client, subject: str, payload: bytes) -> None:
    deadline = time.monotonic() + 10
    while True:
        try:
            await nats.jetstream().publish(subject, payload, timeout=0.5)
        except (NatsError, TimeoutError):
            assert time.monotonic() < deadline
            await asyncio.sleep(0.05)
        else:
            return


async def test_a_ping_is_answered_only_while_listening_and_only_an_empty_one(nats: Client) -> None:
    await ensure_streams(nats, ["in-south"])
    async with hearing(nats) as heard:
        deadline = time.monotonic() + 5
        reply = None
        while reply is None:
            assert time.monotonic() < deadline
            try:
                reply = await nats.request(ping("in-south", "in-south-1"), b"", timeout=0.5)
            except NoRespondersError:  # until it listens
                await asyncio.sleep(0.01)
        assert reply.data == b""
        await nats.publish(ping("in-south", "in-south-1"), b"Jane Doe")
        await nats.publish(ping("in-south", "in-south-1"), b"", headers={"Note": "Jane Doe"})
        await until(lambda: heard.refused("ping") == 2)


def spoilt_states() -> list[tuple[str, bytes, dict[str, str] | None]]:
    """What a node may not say, each with the subject it is said on."""
    text = "Jane Doe, 4111 1111 1111 1111"
    foreign = a_health()
    foreign.knowledge.add(tenant="jane-doe", version=1, created_at_ms=NOW_MS)
    alarming = a_health()
    alarming.alarms.append(text)
    document = Ack.FromString(an_ack(3, REFUSAL_DOCUMENT).SerializeToString())
    document.document_kind, document.document_name = "Agent", "jane-doe"
    return [
        (health("in-south", "in-south-1"), b"\xff\xff\xff", None),
        (health("in-south", "in-south-1"), a_health(node="in-south-2").SerializeToString(), None),
        (health("in-south", "in-south-1"), alarming.SerializeToString(), None),
        (health("in-south", "in-south-1"), foreign.SerializeToString(), None),
        (health("in-south", "in-south-1"), a_health().SerializeToString(), {"Note": text}),
        (ack("in-south", "in-south-1"), document.SerializeToString(), None),
        (ack("in-south", "in-south-1"), an_ack(3).SerializeToString() + b"\xc2\x3e\x04Jane", None),
    ]


@pytest.mark.parametrize("is_late", [False, True], ids=["while the hub listens", "before it starts"])
async def test_who_says_more_than_he_may_is_not_heard_and_it_is_erased(
    *, nats: Client, is_late: bool, capsys: pytest.CaptureFixture[str]
) -> None:
    await ensure_streams(nats, ["in-south"])
    jetstream = nats.jetstream()

    async def say() -> None:
        for subject, payload, headers in spoilt_states():
            await jetstream.publish(subject, payload, headers=headers)

    async with contextlib.AsyncExitStack() as stack:
        if is_late:
            await say()
        heard = await stack.enter_async_context(hearing(nats))
        await jetstream.publish(health("in-south", "in-south-3"), a_health(node="in-south-3").SerializeToString())
        await until(lambda: seen(heard.fleet) == 1)
        if not is_late:
            await say()
        await until(lambda: (heard.refused("health"), heard.refused("ack")) == (5, 2))
        deadline = time.monotonic() + 5
        while (await jetstream.stream_info(STATE_STREAM)).state.messages != 1:
            assert time.monotonic() < deadline, "not erased"
            await asyncio.sleep(0.01)
        assert seen(heard.fleet) == 1
    assert "jane" not in capsys.readouterr().out.lower()


async def test_an_erased_state_is_gone_from_the_disk(nats: Client, tmp_path: Path) -> None:
    await ensure_streams(nats, ["in-south"])
    spoilt = a_health()
    spoilt.alarms.append("xyzzy 4111111111111111")
    async with hearing(nats) as heard:
        await nats.jetstream().publish(health("in-south", "in-south-1"), spoilt.SerializeToString())
        await until(lambda: heard.refused("health") == 1)
        await until(lambda: not any(b"xyzzy" in file.read_bytes() for file in (tmp_path / "nats").rglob("*.blk")))


def test_a_refused_bundle_that_names_a_tenant_is_about_the_bundle() -> None:
    fleet = states()
    refusal = an_ack(3, REFUSAL_DOCUMENT)
    refusal.tenant = "shop"
    fleet.take_health(a_health(bundle=2), heard_at_ms=1000)
    fleet.take_ack(refusal, heard_at_ms=1000)
    assert fleet.nodes("in-south", WANTED, now_ms=1000)[0].refused == refusal
    fleet.take_ack(an_ack(3, at_ms=NOW_MS + 1), heard_at_ms=NOW_MS + 1)
    assert fleet.nodes("in-south", WANTED, now_ms=1000)[0].refused is None


def test_a_refused_document_is_named_with_its_tenant_if_the_node_says_it() -> None:
    fleet = states()
    for node, tenant in (("in-south-1", "shop"), ("in-south-2", "")):
        refusal = an_ack(3, REFUSAL_DOCUMENT)
        refusal.node, refusal.tenant, refusal.document_kind, refusal.document_name = node, tenant, "Agent", "line"
        fleet.take_health(a_health(bundle=2, node=node), heard_at_ms=1000)
        fleet.take_ack(refusal, heard_at_ms=1000)
    nodes = fleet.nodes("in-south", WANTED, now_ms=1000)
    told, guessed = refused_documents(nodes, ["shop", "bank"], lambda *_: ("bank", "gone", "shop"))
    assert (told.document.tenant, list(told.nodes), told.by_all) == ("shop", ["in-south-1"], False)
    assert [ref.tenant for ref in guessed.candidates] == ["bank", "shop"]
