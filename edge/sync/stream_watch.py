"""Looks at every stream of the node's region: one that is none of ours could carry words on (contract/region_streams).

A node's credentials may make a stream of any name, so that no server refuses it. JetStream tells each account of what
is made and changed; a list is read now and then for what was not heard. What is found is counted, and deleted where
nothing of ours is lost by it: a mirror is made again, and a store of records that was changed is left to an operator.
"""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable, Mapping
from dataclasses import dataclass, field

import structlog
from nats.aio.msg import Msg
from nats.aio.subscription import Subscription

from contract.nats_log import RefusalKind
from contract.region_streams import has_name_of_region, is_in_region, is_mirror
from contract.streams import MirrorSpec, mirrors
from contract.subjects import STREAM_CHANGES
from edge.sync.connection import NATS_ERRORS, NatsLink, raise_if_cancelled
from edge.sync.jetstream import JetStreamError, api_request

log = structlog.get_logger(__name__)

LOOK_EVERY_S = 60.0
LOOK_AGAIN_S = 5.0
# JetStream gives so many a page.
PAGE = 256
CHANGES_KEPT = 1000
NOT_FOUND = 404
Json = Mapping[str, object]


@dataclass(slots=True, kw_only=True)
class StreamWatch:
    """Watches the accounts REGION, over `agent`, and BORDER, over `border`; `refused` is told of each that is none of
    ours, once for as long as it is there."""

    region: str
    agent: NatsLink
    border: NatsLink
    refused: Callable[[RefusalKind], None]
    _told: set[tuple[str, str]] = field(default_factory=set)
    _changed: asyncio.Queue[tuple[NatsLink, str]] = field(default_factory=lambda: asyncio.Queue(CHANGES_KEPT))

    async def run(self) -> None:
        """Watch until cancelled, whatever happens to NATS."""
        await self.agent.ready()
        await self.border.ready()
        async with self._hearing(self.agent), self._hearing(self.border):
            while True:
                pause_s = LOOK_EVERY_S
                try:
                    await self.look()
                except NATS_ERRORS:
                    pause_s = LOOK_AGAIN_S
                raise_if_cancelled()
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(pause_s):
                        await self._judge_changes()

    async def look(self) -> None:
        """Judge every stream that is there. Raises NATS_ERRORS."""
        offset, total = 0, 1
        while offset < total:
            page = await api_request(self.agent.client, "$JS.API.STREAM.LIST", {"offset": offset})
            total, streams = _number(page.get("total")), page.get("streams")
            for stream in streams if isinstance(streams, list) else []:
                await self._judge_in_region(_config(stream))
            offset += PAGE
        for spec in mirrors(self.region):
            await self._judge_mirror(spec)

    @contextlib.asynccontextmanager
    async def _hearing(self, link: NatsLink) -> AsyncIterator[None]:
        async def hear(message: Msg) -> None:
            with contextlib.suppress(asyncio.QueueFull):  # the list is read anyway
                self._changed.put_nowait((link, message.subject.rpartition(".")[2]))

        heard: list[Subscription] = [await link.client.subscribe(subject, cb=hear) for subject in STREAM_CHANGES]
        try:
            yield
        finally:
            for subscription in heard:
                with contextlib.suppress(*NATS_ERRORS):
                    await subscription.unsubscribe()

    async def _judge_changes(self) -> None:
        while True:
            link, name = await self._changed.get()
            with contextlib.suppress(*NATS_ERRORS):
                if link is self.agent:
                    await self._judge_named(name)
                else:
                    for spec in mirrors(self.region):
                        if spec.name == name:
                            await self._judge_mirror(spec)
            raise_if_cancelled()

    async def _judge_named(self, name: str) -> None:
        config = await self._config_of(self.agent, name)
        if config is not None:
            await self._judge_in_region(config)
        elif not has_name_of_region(name):
            # Gone before anybody could look.
            self.refused(RefusalKind.STREAM)

    async def _judge_in_region(self, config: Json) -> None:
        name = str(config.get("name", ""))
        if is_in_region(config):
            self._told.discard((self.agent.name, name))
            return
        self._tell(self.agent, name)
        if not has_name_of_region(name):
            await self._delete(self.agent, name)

    async def _judge_mirror(self, spec: MirrorSpec) -> None:
        config = await self._config_of(self.border, spec.name)
        if config is None or is_mirror(config, spec):
            self._told.discard((self.border.name, spec.name))
            return
        self._tell(self.border, spec.name)
        await self._delete(self.border, spec.name)

    async def _config_of(self, link: NatsLink, name: str) -> Json | None:
        try:
            return _config(await api_request(link.client, f"$JS.API.STREAM.INFO.{name}"))
        except JetStreamError as error:
            if error.status != NOT_FOUND:
                raise
            return None

    async def _delete(self, link: NatsLink, name: str) -> None:
        with contextlib.suppress(JetStreamError):  # a sibling was faster
            await api_request(link.client, f"$JS.API.STREAM.DELETE.{name}")
        self._told.discard((link.name, name))

    def _tell(self, link: NatsLink, name: str) -> None:
        """Its name may be words: it is not logged."""
        if (link.name, name) not in self._told:
            self._told.add((link.name, name))
            self.refused(RefusalKind.STREAM)


def _config(stream: object) -> Json:
    config = stream.get("config") if isinstance(stream, Mapping) else None
    return config if isinstance(config, Mapping) else {}


def _number(value: object) -> int:
    return value if isinstance(value, int) else 0
