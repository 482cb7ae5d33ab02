"""Who runs what: states from messages, and messages over a real nats-server."""

import asyncio
import time
from collections.abc import Callable

from nats.aio.client import Client

from contract.subjects import ack, health, ping
from contract.uplink_pb2 import (
    REFUSAL_DIGEST,
    REFUSAL_UNSPECIFIED,
    SUBJECT_BUNDLE,
    SUBJECT_KNOWLEDGE,
    Ack,
    Health,
    KnowledgeVersion,
    Refusal,
)
from controlplane.fleet.listening import FleetListener
from controlplane.fleet.states import FleetStates, Wanted
from controlplane.streams import ensure_streams

PERIOD_S = 2.0


def a_health(at_ms: int = 1000, bundle: int = 3, knowledge: int = 7, node: str = "a") -> Health:
    return Health(
        region="in-south",
        node=node,
        at_ms=at_ms,
        bundle_version=bundle,
        knowledge=[KnowledgeVersion(tenant="shop", version=knowledge)],
    )


def an_ack(version: int, refusal: Refusal.ValueType = REFUSAL_UNSPECIFIED, at_ms: int = 1000) -> Ack:
    return Ack(region="in-south", node="a", subject=SUBJECT_BUNDLE, version=version, refusal=refusal, at_ms=at_ms)


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
    fleet.take_health(a_health(at_ms=2000), heard_at_ms=2000)
    fleet.take_health(a_health(at_ms=1000, bundle=1), heard_at_ms=2001)
    assert fleet.nodes("in-south", WANTED, now_ms=2000)[0].health.bundle_version == 3


def test_a_refusal_counts_while_what_was_refused_is_wanted() -> None:
    fleet = states()
    fleet.take_health(a_health(bundle=2), heard_at_ms=1000)
    fleet.take_ack(an_ack(3, REFUSAL_DIGEST))
    (node,) = fleet.nodes("in-south", WANTED, now_ms=1000)
    assert node.refused is not None
    assert node.refused.refusal == REFUSAL_DIGEST
    assert fleet.nodes("in-south", Wanted(bundle_version=4), now_ms=1000)[0].refused is None
    fleet.take_ack(an_ack(3, at_ms=1001))
    assert fleet.nodes("in-south", WANTED, now_ms=1000)[0].refused is None


def test_a_refusal_of_knowledge_is_kept_beside_acks_of_bundles() -> None:
    fleet = states()
    fleet.take_health(a_health(knowledge=6), heard_at_ms=1000)
    refusal = Ack(
        region="in-south", node="a", subject=SUBJECT_KNOWLEDGE, tenant="shop", version=7, refusal=REFUSAL_DIGEST
    )
    fleet.take_ack(refusal)
    fleet.take_ack(an_ack(3))
    node = fleet.nodes("in-south", WANTED, now_ms=1000)[0]
    assert node.refused == refusal


async def until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 5
    while not condition():
        assert time.monotonic() < deadline, "did not happen in time"
        await asyncio.sleep(0.01)


def seen(fleet: FleetStates) -> int:
    return len(fleet.nodes("in-south", WANTED, now_ms=0))


async def test_what_was_said_before_the_start_and_after_it_is_heard(nats: Client) -> None:
    await ensure_streams(nats, ["in-south"])
    jetstream = nats.jetstream()
    await jetstream.publish(health("in-south", "a"), a_health(bundle=2).SerializeToString())
    await jetstream.publish(ack("in-south", "a"), an_ack(3, REFUSAL_DIGEST).SerializeToString())
    await jetstream.publish(ack("in-south", "a"), an_ack(1, at_ms=10).SerializeToString())
    fleet = states()
    listener = FleetListener(nats, jetstream, fleet)
    async with asyncio.TaskGroup() as tasks:
        listening = tasks.create_task(listener.run())
        await until(lambda: seen(fleet) == 1 and fleet.nodes("in-south", WANTED, now_ms=0)[0].refused is not None)
        await nats.publish(health("in-south", "b"), a_health(node="b").SerializeToString())
        await until(lambda: seen(fleet) == 2)
        listening.cancel()


async def test_a_ping_is_answered_only_while_listening(nats: Client) -> None:
    await ensure_streams(nats, ["in-south"])
    listener = FleetListener(nats, nats.jetstream(), states())
    async with asyncio.TaskGroup() as tasks:
        listening = tasks.create_task(listener.run())
        await asyncio.sleep(0)
        deadline = time.monotonic() + 5
        reply = None
        while reply is None:
            assert time.monotonic() < deadline
            try:
                reply = await nats.request(ping("in-south", "a"), b"", timeout=0.5)
            except Exception as error:  # noqa: BLE001 - no responders until it listens
                assert "no responders" in str(error)  # noqa: PT017
        assert reply.data == b""
        listening.cancel()


async def test_a_node_cannot_speak_for_another_and_noise_is_ignored(nats: Client) -> None:
    await ensure_streams(nats, ["in-south"])
    fleet = states()
    await nats.jetstream().publish(health("in-south", "b"), a_health(node="a").SerializeToString())
    await nats.jetstream().publish(health("in-south", "c"), b"\xff\xff\xff")
    await FleetListener(nats, nats.jetstream(), fleet).catch_up()
    assert seen(fleet) == 0
