"""What is none of ours among what no server refuses: judged by shape, and seen on real servers."""

import asyncio
from collections import Counter
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import pytest

from contract.nats_log import RefusalKind
from contract.streams import FROM_THE_BEGINNING, mirrors
from contract.subjects import health, link_events, ping, rollup, witness
from controlplane.bus import open_bus
from controlplane.fleet.border import LinkWatch
from controlplane.fleet.passing import Passed, refusal_of
from controlplane.fleet.witness import (
    BEGINNINGS_A_MINUTE,
    TOGETHER_AT_MOST_S,
    LinkBook,
    LinkEvent,
    Witness,
    link_event,
)
from controlplane.metrics import HubMetrics
from controlplane.settings import NatsSection
from provisioning.identity.names import ServiceRole
from provisioning.nats.deployment import Deployment
from provisioning.nats.instance import NatsInstance
from provisioning.nats.topology import Topology
from tests.forged_leaf import message, say
from tests.nats_network import eventually, nats_network

REGION, NODE = "in-south", "in-south-1"
MIRROR = mirrors(REGION)[0]
INBOX = f"_INBOX.{REGION}.{NODE}"
NUID = "k8gVXe2zHhLqO0yxWqAIqT"
FLOW_CONTROL = MIRROR.flow_control_subject.replace("*", "7Iqb")
OURS = [
    Passed(region=REGION, subject=ping(REGION, NODE), reply=f"{INBOX}.{NUID}.{NUID}4695"),
    Passed(region=REGION, subject=health(REGION, NODE), reply=f"{INBOX}.{NUID}", payload=b"judged elsewhere"),
    Passed(region=REGION, subject=rollup(REGION, NODE)),
    Passed(region=REGION, subject=MIRROR.reset_subject, reply="$JSC.R.o1SKYy9c"),
    Passed(region=REGION, subject=MIRROR.reset_subject, reply=f"{INBOX}.{NUID}", payload=FROM_THE_BEGINNING),
    Passed(region=REGION, subject=MIRROR.reset_subject, reply=f"{INBOX}.{NUID}.{NUID}", payload=b"?"),
    Passed(region=REGION, subject=FLOW_CONTROL, headers={"Nats-Last-Consumer": "21", "Nats-Last-Stream": "300"}),
    Passed(region=REGION, subject=FLOW_CONTROL),
]
NONE_OF_OURS = [
    (Passed(region=REGION, subject="$JS.ACK.ROLLUPS.x.1.1.1.1.1"), RefusalKind.INTERNAL),
    (Passed(region=REGION, subject="_R_.words"), RefusalKind.INTERNAL),
    (Passed(region=REGION, subject=f"_GR_.abcdef.ghijkl.{ping(REGION, NODE)}"), RefusalKind.INTERNAL),
    (Passed(region=REGION, subject=ping("eu-central", NODE)), RefusalKind.INTERNAL),
    (Passed(region=REGION, subject=ping(REGION, NODE), reply="words.said"), RefusalKind.ANSWER),
    (Passed(region=REGION, subject=ping(REGION, NODE), reply=f"{INBOX}.words"), RefusalKind.ANSWER),
    (Passed(region=REGION, subject=ping(REGION, NODE), reply=f"_INBOX.{REGION}.node-2.{NUID}"), RefusalKind.ANSWER),
    (Passed(region=REGION, subject=MIRROR.reset_subject, payload=b'{"seq":1,"x":"words"}'), RefusalKind.INTERNAL),
    (Passed(region=REGION, subject=MIRROR.reset_subject, payload=b'{"seq":9876543210}'), RefusalKind.INTERNAL),
    (Passed(region=REGION, subject=MIRROR.reset_subject, headers={"X": "words"}), RefusalKind.INTERNAL),
    (Passed(region=REGION, subject=MIRROR.reset_subject, reply="words.said"), RefusalKind.ANSWER),
    (Passed(region=REGION, subject=MIRROR.reset_subject, reply="_INBOX.a.b"), RefusalKind.ANSWER),
    (Passed(region=REGION, subject=FLOW_CONTROL, payload=b"words"), RefusalKind.INTERNAL),
    (Passed(region=REGION, subject=FLOW_CONTROL, reply="words"), RefusalKind.INTERNAL),
    (Passed(region=REGION, subject=FLOW_CONTROL, headers={"Nats-Last-Stream": "words"}), RefusalKind.INTERNAL),
    (Passed(region=REGION, subject=FLOW_CONTROL, headers={"Nats-Last-Stream": "9876543210"}), RefusalKind.INTERNAL),
    (Passed(region=REGION, subject=FLOW_CONTROL, headers={"X-Words": "1"}), RefusalKind.INTERNAL),
    (Passed(region=REGION, subject=f"{FLOW_CONTROL}words"), RefusalKind.INTERNAL),
]


@pytest.mark.parametrize("passed", OURS, ids=lambda passed: passed.subject)
def test_what_nodes_and_their_servers_say_is_ours(passed: Passed) -> None:
    assert refusal_of(passed) is None


@pytest.mark.parametrize(("passed", "kind"), NONE_OF_OURS)
def test_what_carries_more_is_not(passed: Passed, kind: RefusalKind) -> None:
    assert refusal_of(passed) is kind


def an_event(connection: int, *, name: str = NODE, is_end: bool = False) -> LinkEvent:
    return LinkEvent(region=REGION, node=NODE, name=name, connection=connection, is_end=is_end)


def test_a_link_belongs_to_the_node_of_its_certificate() -> None:
    book = LinkBook()
    assert not book.note(an_event(1), 0.0)
    assert book.note(an_event(2, name="in-south-2"), 1.0)


def test_a_node_that_dials_again_has_one_link_and_two_servers_have_two() -> None:
    """Whether the old link was heard of, or stood in the server's list; an old list brings no ended link back."""
    book = LinkBook()
    book.take([((REGION, NODE), 7)], 0.0)
    assert not book.note(an_event(8), 10.0)
    assert not book.note(an_event(7, is_end=True), 10.1)
    book.take([((REGION, NODE), 7), ((REGION, NODE), 8)], 10.2)
    assert book.beside_each_other(12.0) == []

    assert not book.note(an_event(9), 20.0)
    assert book.beside_each_other(20.5) == []
    book.note(an_event(9, is_end=True), 20.6)
    assert book.beside_each_other(21.5) == [REGION]
    assert book.beside_each_other(30.0) == []


def test_after_a_restart_of_the_server_every_link_is_new() -> None:
    """It counts its connections anew, and nobody told of the end of the old ones."""
    book = LinkBook()
    book.note(an_event(40), 0.0)
    book.note(an_event(41), 1.0)
    book.note(an_event(5, is_end=True), 1.0)
    book.forget()
    assert not book.note(an_event(5), 3.0)
    assert book.beside_each_other(10.0) == []
    book.take([((REGION, NODE), 5)], 10.0)
    assert not book.note(an_event(6), 20.0)
    assert book.beside_each_other(22.0) == [REGION]


def test_links_that_put_each_other_out_are_two_servers() -> None:
    book, refused = LinkBook(), []
    for number in range(BEGINNINGS_A_MINUTE):
        refused.append(book.note(an_event(number), number))
        book.note(an_event(number, is_end=True), number + 0.5)
    assert refused == [False] * (BEGINNINGS_A_MINUTE - 1) + [True]
    assert not book.note(an_event(99), 1000.0)


@pytest.mark.parametrize(
    "payload", [b"no json", b"[]", b"{}", b'{"client": 7}', b'{"client": {"id": "x"}}', b'{"client": {"id": 1}}']
)
def test_what_cannot_be_read_is_no_link(payload: bytes) -> None:
    assert link_event(Passed(region=REGION, subject=link_events(REGION)[0], payload=payload)) is None


async def test_the_hub_hears_what_passes_its_server_with_the_permissions_that_it_has(tmp_path: Path) -> None:
    """A forged leaf is refused as what it is; what nodes say of themselves is not."""
    refused: Counter[tuple[RefusalKind, str]] = Counter()
    async with nats_network(tmp_path, {REGION: 2, "eu-central": 1}) as network, asyncio.TaskGroup() as tasks:
        errors: list[str] = []
        central = await network.connect(network.hub, ServiceRole.CONTROLPLANE, errors=errors)
        watch = Witness(nats=central, refused=lambda kind, region: refused.update([(kind, region)]))
        running = tasks.create_task(watch.run())
        await network.make_streams()
        node = network.node(REGION)
        border = await network.connect(node, ServiceRole.BORDER)
        await border.jetstream().publish(health(REGION, NODE), b"", timeout=5)
        await network.services[NODE].stop()
        await network.services[NODE].start()
        await network.linked(node)
        assert refused == {}

        context = network.context(node.service(ServiceRole.LEAF))
        await say(network.hub.leaf_port, context, message("$JS.ACK.ROLLUPS.x.1.1.1.1.1", b"words"))

        async def is_counted() -> bool:
            return refused == {(RefusalKind.IDENTITY, REGION): 1, (RefusalKind.INTERNAL, REGION): 1}

        await eventually(is_counted)
        # No other user of the hub may hear it, and no stream has it.
        litestream = await network.connect(network.hub, ServiceRole.LITESTREAM, errors=errors)
        await litestream.subscribe(f"{witness(REGION)}.>")
        await litestream.flush()

        async def is_refused() -> bool:
            return any("permissions violation" in error.lower() for error in errors)

        await eventually(is_refused)
        for stream in await central.jetstream().streams_info():
            assert not any(subject.startswith("witness") for subject in stream.config.subjects or [])
        running.cancel()


async def test_links_that_come_again_after_a_restart_of_the_hubs_server_are_no_alarm(tmp_path: Path) -> None:
    """The same nodes, over connections that are counted anew; then a second server of one of them is seen."""
    refused: Counter[RefusalKind] = Counter()
    async with nats_network(tmp_path, {REGION: 2}) as network:
        hub, store = network.hub, network.deployment.identities
        name = hub.service(ServiceRole.CONTROLPLANE)
        section = NatsSection(
            url=f"tls://127.0.0.1:{hub.client_port}",
            authority=store.authority_file,
            certificate=store.certificate_file(name),
            key=store.key_file(name),
        )
        async with open_bus(section) as ears, asyncio.TaskGroup() as tasks:
            watch = Witness(nats=ears.client, refused=lambda kind, _: refused.update([kind]))
            ears.on_reconnect.append(watch.links.forget)
            monitor = f"http://127.0.0.1:{hub.monitor_port}"
            links = LinkWatch(monitor, lambda: [REGION], HubMetrics.create(), watch.links)
            running = [tasks.create_task(work.run()) for work in (watch, links)]
            for number in (1, 2):
                await network.services[hub.node].stop()
                await network.services[hub.node].start()
                for node in network.deployment.topology.region(REGION).nodes:
                    await network.linked(node, within_s=30)
                await asyncio.sleep(3 * TOGETHER_AT_MOST_S)
                assert refused == {}, number

            context = network.context(network.node(REGION).service(ServiceRole.LEAF))

            async def is_counted() -> bool:
                await say(hub.leaf_port, context, b"", {"name": NODE, "cluster": "another"}, stays_s=TOGETHER_AT_MOST_S)
                return refused[RefusalKind.IDENTITY] > 0

            await eventually(is_counted, within_s=20)
            for task in running:
                task.cancel()


async def test_a_region_that_is_new_is_witnessed_after_a_reload(tmp_path: Path) -> None:
    """The hub's services were connected before its server knew of the region."""
    refused: Counter[tuple[RefusalKind, str]] = Counter()
    async with nats_network(tmp_path, {REGION: 1, "eu-central": 1}) as network, asyncio.TaskGroup() as tasks:
        whole, hub = network.deployment, network.hub
        instance = whole.instance(hub)
        fewer = Topology(hub=hub, regions=whole.topology.regions[:1])
        await reload(instance, replace(whole, topology=fewer))
        central = await network.connect(hub, ServiceRole.CONTROLPLANE)
        watch = Witness(nats=central, refused=lambda kind, region: refused.update([(kind, region)]))
        running = tasks.create_task(watch.run())
        await central.flush()
        await reload(instance, whole)
        context = network.context(network.node("eu-central").service(ServiceRole.LEAF))

        async def is_counted() -> bool:
            await say(hub.leaf_port, context, message("_R_.words", b"words"))
            return refused[RefusalKind.INTERNAL, "eu-central"] > 0 and refused[RefusalKind.IDENTITY, "eu-central"] > 0

        await eventually(is_counted)
        running.cancel()


async def reload(instance: NatsInstance, deployment: Deployment) -> None:
    """Returns once the hub's server runs the configuration of this deployment."""

    def reloads() -> int:
        return instance.files.log.read_text(errors="replace").count("Reloaded server configuration")

    before = reloads()
    deployment.write(datetime.now(UTC))
    instance.reload()

    async def is_reloaded() -> bool:
        return reloads() > before

    await eventually(is_reloaded)
