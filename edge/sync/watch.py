"""Whether what should come from the hub does come, end to end, and what is done about it.

Three signs, none of which trusts a connection that says it is up: the age of the newest beat of each mirrored stream; a
ping that the hub's services answer; and, when no answer comes, a probe that the hub's NATS answers by itself.

| ping | probe | beats | verdict | healing |
|---|---|---|---|---|
| answered | - | fresh | all well | - |
| answered | - | old | the stream stalled | its consumer anew, then the mirror, then the link |
| no | answered | any | the hub's services are away | none is ours to do |
| no | refused at once | any | there is no link | NATS dials by itself |
| no | silence | any | the link is up and carries nothing | the link is ended, so that NATS dials anew |

Each healing waits twice as long as the one before. Deleting a mirror needs an answering hub, is done by one node of the
region at a time, and no step touches anything that a call uses: calls live on what is on disk.
"""

import asyncio
import time
from dataclasses import dataclass, field
from enum import StrEnum

import nats.errors
import structlog
from nats.errors import NoRespondersError

from contract import subjects
from contract.alarms import AlarmCode
from edge.sync.alarms import Alarms
from edge.sync.beats import BeatWatch
from edge.sync.connection import NATS_ERRORS, NatsLink
from edge.sync.follower import StreamFollower
from edge.sync.leaf import LeafLinks
from edge.sync.lock import RegionLock
from edge.sync.metrics import SyncMetrics
from edge.sync.mirrors import Mirrors
from edge.sync.settings import WatchSection

log = structlog.get_logger(__name__)

PING_WITHIN_S = 1.0
# No JSON: JetStream answers with an error and does nothing, but only a link that carries can bring that answer.
_PROBE = b"?"
_FIRST_PAUSE_S = 5.0
# A mirror made anew has to bring everything over the link again.
_FIRST_ANEW_PAUSE_S = 60.0


class HubSign(StrEnum):
    """What the last look at the hub showed."""

    ANSWERS = "answers"
    SERVICES_AWAY = "services_away"
    NO_LINK = "no_link"
    SILENT = "silent"
    NATS_DOWN = "nats_down"


@dataclass(slots=True)
class Backoff:
    """When the next attempt may be made: after `first_s`, then twice as long each time, at most `longest_s`."""

    first_s: float
    longest_s: float
    attempts: int = 0
    _due_at: float = 0.0

    def start(self, now: float, after_s: float) -> None:
        """The trouble began at `now`; nothing is attempted within `after_s`."""
        if self._due_at == 0.0:
            self._due_at = now + after_s

    def is_due(self, now: float) -> bool:
        return self._due_at > 0.0 and now >= self._due_at

    def attempted(self, now: float) -> int:
        """Count an attempt and return its number, from 1."""
        self._due_at = now + min(self.first_s * 2**self.attempts, self.longest_s)
        self.attempts += 1
        return self.attempts

    def reset(self) -> None:
        self.attempts, self._due_at = 0, 0.0


@dataclass(slots=True)
class Missing:
    """What was said to be missing in a mirror. While the mirror moves, it may still be on its way."""

    backoff: Backoff
    is_said: bool = False
    _said_at: float = 0.0
    _stood: tuple[float, int] | None = None

    def say(self, now: float) -> None:
        """It is missing. After a long silence this is another trouble than before."""
        if now - self._said_at > self.backoff.longest_s:
            self.backoff.reset()
            self._stood = None
        self.is_said, self._said_at = True, now

    def is_stuck(self, now: float, sequence: int, after_s: float) -> bool:
        """Whether the mirror stands where it stood when this was asked `after_s` ago or earlier."""
        if self._stood is None or self._stood[1] != sequence:
            self._stood = (now, sequence)
        return now - self._stood[0] >= after_s

    def may_heal(self, now: float) -> bool:
        """Whether the mirror may be made anew now; if so, that counts as done."""
        self.backoff.start(now, 0.0)
        if not self.backoff.is_due(now):
            return False
        self.backoff.attempted(now)
        self._stood = None
        return True


@dataclass(slots=True, kw_only=True)
class WatchedStream:
    """A mirrored stream with its consumer and beats."""

    label: str
    alarm: str
    follower: StreamFollower
    beats: BeatWatch
    backoff: Backoff


@dataclass(slots=True, kw_only=True)
class HubWatch:
    """Looks every `health_every_s`, alarms, and heals."""

    region: str
    node: str
    border: NatsLink
    leafs: LeafLinks
    lock: RegionLock
    mirrors: Mirrors
    streams: list[WatchedStream]
    node_alarms: Alarms
    metrics: SyncMetrics
    settings: WatchSection
    sign: HubSign = HubSign.NATS_DOWN
    _answered_at: float = field(default_factory=time.monotonic)
    _silent_since: float | None = None
    _link_backoff: Backoff = field(init=False)
    _missing: dict[str, Missing] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self._link_backoff = Backoff(_FIRST_PAUSE_S, self.settings.heal_at_most_every_s)

    def want_mirror_anew(self, stream: str) -> None:
        """Something that should be in this mirror is not: make it anew, unless it is still on its way."""
        backoff = Backoff(_FIRST_ANEW_PAUSE_S, self.settings.heal_at_most_every_s)
        self._missing.setdefault(stream, Missing(backoff)).say(time.monotonic())

    async def run(self) -> None:
        """Look and heal for ever."""
        while True:
            await self.look()
            await self._heal()
            await asyncio.sleep(self.settings.health_every_s)

    async def look(self) -> None:
        """Bring the signs and the alarms up to date."""
        self.sign = await self._hub_sign()
        now = time.monotonic()
        if self.sign is HubSign.ANSWERS:
            self._answered_at = now
        self._silent_since = (self._silent_since or now) if self.sign is HubSign.SILENT else None
        is_gone = now - self._answered_at > self.settings.stale_after_s
        self.node_alarms.set(AlarmCode.NATS_DOWN, is_raised=self.sign is HubSign.NATS_DOWN)
        self.node_alarms.set(AlarmCode.HUB_UNREACHABLE, is_raised=is_gone)
        self.node_alarms.set(AlarmCode.LINK_STALLED, is_raised=is_gone and self.sign is HubSign.SILENT)
        for stream in self.streams:
            age_s = stream.beats.age_s()
            self.metrics.beat_age.labels(stream=stream.label).set(age_s)
            self.node_alarms.set(stream.alarm, is_raised=age_s > self.settings.stale_after_s)

    async def _hub_sign(self) -> HubSign:
        if not self.border.is_up:
            return HubSign.NATS_DOWN
        started = time.monotonic()
        try:
            await self._ask(subjects.ping(self.region, self.node), b"")
        except NATS_ERRORS:
            return await self._probed()
        self.metrics.hub_round_trip.set(time.monotonic() - started)
        return HubSign.ANSWERS

    async def _probed(self) -> HubSign:
        spec = next(iter(self.mirrors.specs.values()))
        try:
            await self._ask(spec.reset_subject, _PROBE)
        except NoRespondersError:
            return HubSign.NO_LINK
        except nats.errors.TimeoutError:
            return HubSign.SILENT
        except NATS_ERRORS:
            return HubSign.NATS_DOWN
        return HubSign.SERVICES_AWAY

    async def _ask(self, subject: str, payload: bytes) -> None:
        await self.border.client.request(subject, payload, timeout=PING_WITHIN_S)

    async def _heal(self) -> None:
        now = time.monotonic()
        if self.sign is HubSign.SILENT:
            await self._heal_link(now)
        else:
            self._link_backoff.reset()
        for stream in self.streams:
            if self.sign is HubSign.ANSWERS and stream.beats.age_s() > self.settings.stale_after_s:
                await self._heal_stream(stream, now)
            else:
                stream.backoff.reset()
        if self.sign is HubSign.ANSWERS:
            for name, missing in list(self._missing.items()):
                if missing.is_said:
                    await self._heal_missing(name, missing, now)

    async def _heal_stream(self, stream: WatchedStream, now: float) -> None:
        stream.backoff.start(now, self.settings.heal_after_s)
        if not stream.backoff.is_due(now):
            return
        attempt = stream.backoff.attempted(now)
        log.warning("stream_stalled", stream=stream.follower.stream, attempt=attempt)
        if attempt == 1:
            self.metrics.heals.labels(step="consumer").inc()
            stream.follower.renew()
        elif attempt % 3:
            await self._make_anew(stream.follower.stream)
            stream.follower.renew()
        else:
            await self._kick()

    async def _heal_missing(self, name: str, missing: Missing, now: float) -> None:
        # Said again for as long as it is so.
        missing.is_said = False
        try:
            sequence = await self.mirrors.last_sequence(self.mirrors.specs[name])
        except NATS_ERRORS:
            return
        if missing.is_stuck(now, sequence, self.settings.heal_after_s) and missing.may_heal(now):
            log.warning("snapshot_missing", stream=name, attempt=missing.backoff.attempts)
            await self._make_anew(name)

    async def _heal_link(self, now: float) -> None:
        self._link_backoff.start(now, self.settings.heal_after_s)
        if self._link_backoff.is_due(now):
            log.warning("link_stalled", attempt=self._link_backoff.attempted(now))
            await self._kick()

    async def _make_anew(self, name: str) -> None:
        self.metrics.heals.labels(step="mirror").inc()
        try:
            await self.mirrors.make_anew(self.mirrors.specs[name])
        except NATS_ERRORS as error:
            log.warning("mirror_not_made", stream=name, detail=type(error).__name__)

    async def _kick(self) -> None:
        async with self.lock.taken("link") as is_ours:
            if not is_ours:
                return
            for link in await self.leafs.all():
                self.metrics.heals.labels(step="link").inc()
                try:
                    await self.leafs.kick(link)
                except NATS_ERRORS as error:
                    log.warning("link_not_kicked", detail=type(error).__name__)
