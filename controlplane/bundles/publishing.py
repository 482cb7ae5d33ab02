"""Takes bundles from the outbox to NATS. Idempotent: a bundle that is sent twice carries the same message id.

At start it compares the newest bundle of each region with its stream: NATS may have lost it, or the database may have
been restored from a backup that is older than what nodes already run.
"""

import asyncio
import contextlib
from collections.abc import Awaitable, Callable

import apsw
import structlog
from google.protobuf.message import DecodeError
from nats.errors import Error as NatsError
from nats.js import JetStreamContext
from nats.js.errors import NotFoundError

from contract.downlink_pb2 import BundleManifest, BundleMessage
from contract.subjects import bundle, config_stream
from controlplane.bundles import outbox
from controlplane.bundles.regions import RegionBundles
from controlplane.cancelling import raise_if_cancelled
from controlplane.database import HubDatabase
from controlplane.documents.store import load_estate
from controlplane.errors import StreamRefusedError
from controlplane.lease import Lease
from controlplane.metrics import HubMetrics

log = structlog.get_logger(__name__)

PUBLISH_WITHIN_S = 2.0
RETRY_AFTER_S = 0.5
# Wakes come from applies; this finds what a failed wake left.
LOOK_AGAIN_S = 10.0

_Write = Callable[[apsw.Connection], None]


class BundlePublisher:
    """Publishes what waits in the outbox, in the order of versions, for as long as the lease is held."""

    def __init__(  # noqa: PLR0913 - the composition root names them
        self,
        database: HubDatabase,
        jetstream: JetStreamContext,
        bundles: RegionBundles,
        lease: Lease,
        *,
        metrics: HubMetrics,
        prepare: Callable[[], Awaitable[None]],
        reissued: Callable[[], Awaitable[None]],
    ) -> None:
        """`prepare` makes the streams; it is called again after every failure. `reissued` is told of versions that
        nobody applied."""
        self._reissued = reissued
        self._prepare = prepare
        self._is_prepared = False
        self._metrics = metrics
        self._database = database
        self._jetstream = jetstream
        self._bundles = bundles
        self._lease = lease
        self._wake = asyncio.Event()

    def wake(self) -> None:
        """Something was put into the outbox."""
        self._wake.set()

    def prepare_again(self) -> None:
        """Streams may be missing, or may have lost what was in them."""
        self._is_prepared = False
        self._wake.set()

    async def run(self) -> None:
        """Publish for ever. Raises LeaseLostError."""
        while True:
            self._wake.clear()
            wait_s = LOOK_AGAIN_S
            try:
                if not self._is_prepared:
                    self._is_prepared = True
                    await self._prepare()
                    await self.reconcile()
                await self.publish_waiting()
            except (NatsError, TimeoutError, StreamRefusedError) as error:
                log.warning("bundle_publish_failed", error=type(error).__name__)
                self._is_prepared = False
                wait_s = RETRY_AFTER_S
            raise_if_cancelled()
            await _wait(self._wake, wait_s)

    async def publish_waiting(self) -> int:
        """Publish what waits; returns how many. Raises NatsError, TimeoutError and LeaseLostError."""
        waiting = await self._database.read(outbox.waiting)
        self._metrics.bundles_waiting.set(len(waiting))
        for item in waiting:
            self._lease.check()
            ack = await self._jetstream.publish(
                bundle(item.region),
                item.message,
                timeout=PUBLISH_WITHIN_S,
                stream=config_stream(item.region),
                headers={"Nats-Msg-Id": f"bundle-{item.region}-{item.version}"},
            )
            await self._mark(item.region, item.version)
            self._metrics.bundles_published.labels(item.region).inc()
            self._metrics.bundles_waiting.dec()
            log.info("bundle_published", region=item.region, bundle=item.version, is_repeated=bool(ack.duplicate))
        return len(waiting)

    async def reconcile(self) -> None:
        """Make the newest bundle of each region's stream and of the outbox agree."""
        for region, newest in (await self._database.read(outbox.newest_versions)).items():
            in_stream = await self._version_in_stream(region)
            if in_stream > newest.version:
                self._lease.check()
                await self._database.write(self._reissue(region, in_stream + 1))
                await self._reissued()
                log.warning("bundle_reissued", region=region, bundle=in_stream + 1, database_had=newest.version)
            elif in_stream < newest.version:
                await self._database.write(_waits(region, newest.version))

    async def _version_in_stream(self, region: str) -> int:
        try:
            message = await self._jetstream.get_last_msg(config_stream(region), bundle(region))
        except NotFoundError:
            return 0
        try:
            manifest = BundleManifest.FromString(BundleMessage.FromString(message.data or b"").manifest.body)
        except DecodeError:
            return 0
        return int(manifest.version)

    async def _mark(self, region: str, version: int) -> None:
        await self._database.write(lambda connection: outbox.mark_published(connection, region, version))

    def _reissue(self, region: str, version: int) -> _Write:
        def write(connection: apsw.Connection) -> None:
            estate, _ = load_estate(connection)
            self._bundles.reissue(connection, estate, region, version)

        return write


def _waits(region: str, version: int) -> _Write:
    return lambda connection: outbox.mark_waiting(connection, region, version)


async def _wait(event: asyncio.Event, at_most_s: float) -> None:
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(at_most_s):
            await event.wait()
