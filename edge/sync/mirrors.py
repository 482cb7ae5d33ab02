"""The region's mirrors of the hub's streams: made where they are missing, made anew where they stalled."""

import asyncio
from collections.abc import Mapping

import structlog

from contract.streams import FROM_THE_BEGINNING, MirrorSpec, mirrors
from edge.sync.connection import NATS_ERRORS, NatsLink
from edge.sync.jetstream import JetStreamError, api_request
from edge.sync.lock import RegionLock

log = structlog.get_logger(__name__)

_LOOK_EVERY_S = 10.0
_LOOK_AGAIN_S = 1.0
_NOT_FOUND = 404
# Limits of a stream that a release may change.
_CHANGEABLE = ("max_bytes", "max_msgs_per_subject", "max_msg_size", "discard")


class Mirrors:
    """The mirrors of one region, as any of its nodes may tend them; only one does at a time."""

    def __init__(self, region: str, border: NatsLink, lock: RegionLock, *, replicas: int) -> None:
        self.specs: dict[str, MirrorSpec] = {spec.name: spec for spec in mirrors(region)}
        self._border = border
        self._lock = lock
        self._replicas = replicas

    async def run(self) -> None:
        """Make what is missing, for ever: the first start, a region whose JetStream was emptied. One whose limits are
        of another release is changed, one that is nearly full made anew."""
        await self._border.ready()
        while True:
            is_whole = True
            for spec in self.specs.values():
                try:
                    is_whole = await self._tend(spec) and is_whole
                except NATS_ERRORS:
                    is_whole = False
            await asyncio.sleep(_LOOK_EVERY_S if is_whole else _LOOK_AGAIN_S)

    async def _tend(self, spec: MirrorSpec) -> bool:
        info = await self._info(spec)
        if info is None:
            return await self.make(spec)
        if spec.is_nearly_full(_held_bytes(info)):
            return await self.make_anew(spec)
        wanted, config = spec.request(self._replicas), info.get("config")
        if isinstance(config, dict) and any(config.get(name) != wanted[name] for name in _CHANGEABLE):
            await api_request(self._border.client, spec.update_subject, wanted)
            log.info("mirror_changed", stream=spec.name)
        return True

    async def make(self, spec: MirrorSpec) -> bool:
        """Make a missing mirror; False when another node is at it. Raises NATS_ERRORS when the hub does not answer."""
        async with self._lock.taken(f"mirror.{spec.name}") as is_ours:
            if is_ours and await self._is_missing(spec):
                await self._make(spec)
        return is_ours

    async def make_anew(self, spec: MirrorSpec) -> bool:
        """Delete a stalled mirror and make it again, with all its past; False when another node is at it.

        The hub is asked first: while it does not answer, the old mirror is all the region has. Raises NATS_ERRORS.
        """
        async with self._lock.taken(f"mirror.{spec.name}") as is_ours:
            if is_ours:
                await api_request(self._border.client, spec.reset_subject, FROM_THE_BEGINNING)
                if not await self._is_missing(spec):
                    await api_request(self._border.client, spec.delete_subject)
                await self._make(spec)
                log.warning("mirror_made_anew", stream=spec.name)
        return is_ours

    async def last_sequence(self, spec: MirrorSpec) -> int:
        """How far the mirror has come, as the hub counts. Raises NATS_ERRORS."""
        state = (await api_request(self._border.client, spec.info_subject)).get("state")
        return int(state.get("last_seq", 0)) if isinstance(state, dict) else 0

    async def _make(self, spec: MirrorSpec) -> None:
        # A mirror begins where the hub believes that the old one ended, unless it is told otherwise first.
        await api_request(self._border.client, spec.reset_subject, FROM_THE_BEGINNING)
        await api_request(self._border.client, spec.create_subject, spec.request(self._replicas))
        log.info("mirror_made", stream=spec.name)

    async def _is_missing(self, spec: MirrorSpec) -> bool:
        return await self._info(spec) is None

    async def _info(self, spec: MirrorSpec) -> dict[str, object] | None:
        try:
            return await api_request(self._border.client, spec.info_subject)
        except JetStreamError as error:
            if error.status != _NOT_FOUND:
                raise
            return None


def _held_bytes(info: Mapping[str, object]) -> int:
    state = info.get("state")
    return int(state.get("bytes", 0)) if isinstance(state, dict) else 0
