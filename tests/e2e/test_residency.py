"""The leak battery: ways to get words out of a region, none of which may work, and the proof that it would see one."""

import asyncio
import contextlib
import secrets
import ssl
import string
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import nats.errors
import nats.js.errors

from edge.sync.border import BorderWatch
from provisioning.identity.names import HUB_SITE, ServiceRole
from provisioning.nats.permissions import Border
from tests.hub_observer import Observer, Opened, Watched, is_internal
from tests.leak_ways import ABROAD, ALL_WAYS, HOME, NODE, Outcome, Stage, Way, said_well
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
    refusals: int
    guarded: int

    @property
    def is_leak(self) -> bool:
        """Whether somebody at the hub can read the words, or finds them stored."""
        return any(not is_internal(place) and place not in self.way.remains for place in self.places)

    @property
    def is_counted(self) -> bool:
        return self.way.outcome is Outcome.SILENT or bool(
            self.refusals if self.way.outcome is Outcome.REFUSED else self.guarded
        )


@dataclass(slots=True)
class Battery:
    """The stage, who listens at the hub, and who counts at every server."""

    stage: Stage
    observer: Observer
    watches: Mapping[str, BorderWatch]

    def refusals(self, site: str) -> int:
        self.watches[site].look()
        return self.watches[site].total

    async def run(self, ways: Sequence[Way], *, opened: bool = False) -> list[Result]:
        return [await self._try(way, opened=opened) for way in ways]

    async def _try(self, way: Way, *, opened: bool) -> Result:
        # Letters only: a way must not be found by digits that it does not have.
        marker = "leak" + "".join(secrets.choice(string.ascii_lowercase) for _ in range(16))
        before, guarded = self.refusals(way.site), self.observer.guarded
        with contextlib.suppress(*FAILURES):
            async with asyncio.timeout(10):
                await way.attempt(self.stage, marker)
        if way.outcome is Outcome.REFUSED and not opened:
            await self._until_counted(way.site, before)
        else:
            await asyncio.sleep(ARRIVES_WITHIN_S)
        if way.outcome is Outcome.GUARDED:
            # Allowed by subject: it arrives, is judged, and must be gone.
            await self.observer.ingest()
        places = await self.observer.finds(marker)
        return Result(
            way=way, places=places, refusals=self.refusals(way.site) - before, guarded=self.observer.guarded - guarded
        )

    async def _until_counted(self, site: str, before: int) -> None:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(COUNTED_WITHIN_S):
                while self.refusals(site) == before:
                    await asyncio.sleep(0.02)


async def _nothing(stage: Stage, marker: str) -> None:
    """No attempt at all."""


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
        watches = _watches(network)
        try:
            yield Battery(stage=stage, observer=await Observer.at(network), watches=watches)
        finally:
            for watch in watches.values():
                watch.close()


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
        assert tried.observer.guarded == 0
        assert await tried.observer.finds(NODE)
        results = await tried.run(ALL_WAYS)
        # Nobody goes on trying: what was counted for a way was this way's.
        idle = await tried.run([Way(name="", outcome=Outcome.REFUSED, attempt=_nothing, site=s) for s in SITES])
    assert len(results) >= 30
    assert {result.way.name: result.places for result in results if result.is_leak} == {}
    assert [result.way.name for result in results if not result.is_counted] == []
    assert [result.way.site for result in idle if result.is_counted] == []
    # Those that nobody counts are known, and each says why.
    assert all(result.way.why for result in results if result.way.outcome is Outcome.SILENT)


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
