"""The leak battery: ways to get words out of a region, none of which may work, and the proof that it would see one."""

import asyncio
import contextlib
import secrets
import ssl
import string
from collections import Counter
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import nats.errors
import nats.js.errors

from contract.nats_log import RefusalKind
from contract.subjects import inbox
from controlplane.fleet.border import LinkWatch
from controlplane.fleet.witness import Witness
from controlplane.metrics import HubMetrics
from edge.sync.border import BorderWatch
from edge.sync.connection import NatsLink
from edge.sync.settings import CertificateSection, NatsSection
from edge.sync.stream_watch import StreamWatch
from provisioning.identity.names import HUB_SITE, ServiceRole
from provisioning.nats.permissions import Border
from provisioning.nats.topology import Node
from tests.hub_observer import Observer, Opened, Watched, is_internal
from tests.leaks.all_ways import ALL_WAYS
from tests.leaks.uplink import said_well
from tests.leaks.way import ABROAD, HOME, NODE, Outcome, Stage, Way
from tests.nats_network import Network, nats_network

SITES = (HUB_SITE, HOME, ABROAD)
COUNTED_WITHIN_S = 3.0
# What is not refused has this long to arrive; over the loopback it takes a millisecond.
ARRIVES_WITHIN_S = 0.1
FAILURES = (
    nats.errors.Error,
    nats.js.errors.Error,
    OSError,
    ssl.SSLError,
    TimeoutError,
    asyncio.IncompleteReadError,
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Result:
    """What came of one way."""

    way: Way
    places: Sequence[str]
    refused: Counter[RefusalKind]
    guarded: int
    watched: Counter[RefusalKind]

    @property
    def is_leak(self) -> bool:
        """Whether somebody at the hub can read the words, or finds them stored."""
        return any(not is_internal(place) and place not in self.way.remains for place in self.places)

    @property
    def is_counted(self) -> bool:
        """Whether somebody who counts refused it, as what it is."""
        if self.way.outcome is Outcome.GUARDED:
            return self.guarded > 0
        return _is_counted(self.way, self.refused if self.way.outcome is Outcome.REFUSED else self.watched)


@dataclass(slots=True)
class Battery:
    """The stage, who listens at the hub, and who counts at every server."""

    stage: Stage
    observer: Observer
    watches: Mapping[str, BorderWatch]
    # What the agents of the region refuse of its streams.
    streams: Counter[RefusalKind]

    def refused(self, site: str) -> Counter[RefusalKind]:
        self.watches[site].look()
        return self.watches[site].refused.copy()

    def watched(self) -> Counter[RefusalKind]:
        return self.streams + self.observer.witnessed

    async def run(self, ways: Sequence[Way], *, opened: bool = False) -> list[Result]:
        return [await self._try(way, opened=opened) for way in ways]

    async def refusing_by_themselves(self) -> list[str]:
        """Sites whose servers refuse something while nobody tries anything."""
        before = {site: self.refused(site) for site in SITES}
        await asyncio.sleep(COUNTED_WITHIN_S)
        return [site for site in SITES if self.refused(site) != before[site]]

    async def _try(self, way: Way, *, opened: bool) -> Result:
        # Letters only: a way must not be found by digits that it does not have.
        marker = "leak" + "".join(secrets.choice(string.ascii_lowercase) for _ in range(16))
        guarded, refused, watched = self.observer.guarded, self.refused(way.site), self.watched()
        with contextlib.suppress(*FAILURES):
            async with asyncio.timeout(10):
                await way.attempt(self.stage, marker)
        if way.outcome is not Outcome.GUARDED and not opened:
            if way.outcome is Outcome.REFUSED:
                await self._until_counted(way, refused, lambda: self.refused(way.site))
            else:
                await self._until_counted(way, watched, self.watched)
        else:
            await asyncio.sleep(ARRIVES_WITHIN_S)
        if way.outcome is Outcome.GUARDED:
            # Allowed by subject: it arrives, is judged, and must be gone.
            await self.observer.ingest()
        places = await self.observer.finds(marker)
        return Result(
            way=way,
            places=places,
            refused=self.refused(way.site) - refused,
            guarded=self.observer.guarded - guarded,
            watched=self.watched() - watched,
        )

    async def _until_counted(
        self, way: Way, before: Counter[RefusalKind], counted: Callable[[], Counter[RefusalKind]]
    ) -> None:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(COUNTED_WITHIN_S):
                while not _is_counted(way, counted() - before):
                    await asyncio.sleep(0.02)


def _is_counted(way: Way, more: Counter[RefusalKind]) -> bool:
    return more.total() > 0 if way.kind is None else more[way.kind] > 0


@asynccontextmanager
async def battery(root: Path, border: Border, *, with_mirrors: bool = True) -> AsyncIterator[Battery]:
    """Two regions and their hub, everybody connected."""
    async with nats_network(root, {HOME: 1, ABROAD: 1}, border) as network:
        await network.make_streams(with_mirrors=with_mirrors)
        node = network.node(HOME)
        stage = Stage(
            network=network,
            border=await network.connect(node, ServiceRole.BORDER),
            agent=await network.connect(node, ServiceRole.AGENT),
            calls=await network.connect(node, ServiceRole.CALLS),
            litestream=await network.connect(node, ServiceRole.LITESTREAM),
            system=await network.connect(node, ServiceRole.SYSTEM),
        )
        watches, observer, streams = _watches(network), await Observer.at(network), Counter[RefusalKind]()
        central = await network.connect(network.hub, ServiceRole.CONTROLPLANE)
        async with asyncio.TaskGroup() as tasks:
            agent, border_link = (_link(network, node, role) for role in (ServiceRole.AGENT, ServiceRole.BORDER))
            looking = StreamWatch(
                region=HOME, agent=agent, border=border_link, refused=lambda kind: streams.update([kind])
            )
            witness = Witness(nats=central, refused=observer.refused)
            monitor = f"http://127.0.0.1:{network.hub.monitor_port}"
            links = LinkWatch(monitor, lambda: (HOME, ABROAD), HubMetrics.create(), witness.links)
            works = (witness, links, looking, agent, border_link)
            running = [tasks.create_task(work.run()) for work in works]
            await agent.ready()
            await border_link.ready()
            await central.flush()
            try:
                yield Battery(stage=stage, observer=observer, watches=watches, streams=streams)
            finally:
                for task in running:
                    task.cancel()
                for watch in watches.values():
                    watch.close()


def _link(network: Network, node: Node, role: ServiceRole) -> NatsLink:
    """A connection as the node agent has it."""
    store, name = network.deployment.identities, node.service(role)
    certificate = CertificateSection(certificate=store.certificate_file(name), key=store.key_file(name))
    url = f"tls://127.0.0.1:{node.client_port}"
    settings = NatsSection(urls=(url,), ca=store.authority_file)
    prefix = inbox(node.region, node.name) if role is ServiceRole.BORDER else "_INBOX"
    return NatsLink(str(role), settings, certificate, inbox_prefix=prefix)


def _watches(network: Network) -> dict[str, BorderWatch]:
    """As the node agent and the hub count: from the logs of their servers."""
    deployment = network.deployment
    logs = {site: deployment.instance(network.node(site)).files.log for site in (HOME, ABROAD)}
    logs[HUB_SITE] = deployment.instance(network.hub).files.log
    return {site: BorderWatch(log, lambda _: None) for site, log in logs.items()}


async def test_no_way_out_of_a_region_works_and_every_attempt_is_counted(tmp_path: Path) -> None:
    """Nothing arrives where anybody at the hub can read it, and each way is refused by somebody who counts."""
    async with battery(tmp_path, Watched()) as tried:
        # What is allowed does pass, and the observer hears it.
        for subject, said in said_well().items():
            stored = await tried.stage.border.jetstream().publish(subject, said.SerializeToString(), timeout=5)
            assert stored.domain == "hub"
        await tried.observer.ingest()
        assert (tried.observer.guarded, tried.watched()) == (0, {})
        assert await tried.observer.finds(NODE)
        results = await tried.run(ALL_WAYS)
        # Nobody goes on trying: what was counted for a way was this way's.
        assert await tried.refusing_by_themselves() == []
    assert len(results) >= 30
    assert {result.way.name: result.places for result in results if result.is_leak} == {}
    assert [result.way.name for result in results if not result.is_counted] == []
    # Those that no server refuses each say why.
    assert all(result.way.why for result in results if result.way.outcome is Outcome.WATCHED)


async def test_the_battery_sees_leaks_where_the_border_is_opened(tmp_path: Path) -> None:
    """With the allow-list opened on purpose the same ways bring words to the hub, and the battery says so."""
    ways = [way for way in ALL_WAYS if way.name.startswith(("border: ", "forged leaf: "))]
    async with battery(tmp_path, Opened(), with_mirrors=False) as tried:
        leaks = {result.way.name for result in await tried.run(ways, opened=True) if result.is_leak}
    assert {
        "border: another kind of message",
        "border: words as the node",
        "border: to an inbox at the hub",
        "border: a stream at the hub",
        "border: a KV bucket across domains",
        "forged leaf: a subject of its own",
        "forged leaf: as a reply of a service",
        "forged leaf: the hub's JetStream",
    } <= leaks
