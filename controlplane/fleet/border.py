"""Who was turned away at the hub, and which links are of no region that the documents name.

The server tells of refusals in its log only. Nothing of what was tried is kept (contract/nats_log.py drops it), and a
link's name is shown only if it is a name.
"""

import asyncio
import time
from collections import Counter, deque
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from pathlib import Path

import aiohttp
import structlog

from contract.nats_log import RefusalKind, RefusalTally, refusal_of
from contract.subjects import LINK_ACCOUNT_PREFIX
from controlplane.erasing import name_or_nothing
from controlplane.fleet.witness import LinkBook
from controlplane.log_tail import LogTail
from controlplane.metrics import HubMetrics

log = structlog.get_logger(__name__)

BORDER_REFUSED = "border_refused"
LINK_UNKNOWN = "link_unknown"
RECENT_S = 3600.0
QUIET_AFTER_S = 600.0
LOOK_EVERY_S = 5.0
ANSWER_WITHIN_S = 2.0
# Refusals are kept by minutes, so that an hour of them is small.
MINUTE_S = 60.0


class BorderWatch:
    """Counts refusals: what the log of the hub's nats-server tells, and what others tell `refused`; `run` until
    cancelled."""

    def __init__(
        self, server_log: Path | None, metrics: HubMetrics, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._tail = LogTail(server_log, self._take, self._skipped) if server_log is not None else None
        self._metrics = metrics
        self._clock = clock
        self._tally = RefusalTally()
        self._minutes: deque[tuple[float, Counter[RefusalKind]]] = deque()
        self._refused_at: float | None = None
        metrics.alarm.labels(BORDER_REFUSED).set(0)
        for kind in RefusalKind:
            metrics.border_refusals.labels(kind.value)

    async def run(self) -> None:
        """Follow the log; an alarm ends after ten quiet minutes."""
        async with asyncio.TaskGroup() as tasks:
            if self._tail is not None:
                tasks.create_task(self._tail.run(), name="border:log")
            while True:
                await asyncio.sleep(LOOK_EVERY_S)
                for kind, count in self._tally.due(self._clock()).items():
                    _tell(kind, count)
                if self._refused_at is not None and self._clock() - self._refused_at > QUIET_AFTER_S:
                    self._refused_at = None
                    self._metrics.alarm.labels(BORDER_REFUSED).set(0)

    def recent(self) -> Mapping[RefusalKind, int]:
        """Refusals of the last hour, by kind."""
        oldest = self._clock() - RECENT_S
        while self._minutes and self._minutes[0][0] < oldest:
            self._minutes.popleft()
        return sum((counts for _, counts in self._minutes), Counter[RefusalKind]())

    def refused(self, kind: RefusalKind, region: str = "", connection: str = "") -> None:
        """Somebody was turned away, by the server or by who watches what passes it."""
        now = self._refused_at = self._clock()
        if not self._minutes or now - self._minutes[-1][0] > MINUTE_S:
            self._minutes.append((now, Counter()))
        self._minutes[-1][1][kind] += 1
        self._metrics.border_refusals.labels(kind.value).inc()
        self._metrics.alarm.labels(BORDER_REFUSED).set(1)
        if count := self._tally.add(kind, now):
            _tell(kind, count, region, connection)

    def _skipped(self, skipped_bytes: int) -> None:
        self._metrics.border_log_skipped.inc(skipped_bytes)
        log.warning("border_log_skipped", skipped_bytes=skipped_bytes)
        self._refused_at = self._clock()
        self._metrics.alarm.labels(BORDER_REFUSED).set(1)

    def _take(self, line: str) -> None:
        refusal = refusal_of(line)
        if refusal is not None:
            self.refused(refusal.kind, connection=refusal.connection)


def _tell(kind: RefusalKind, count: int, region: str = "", connection: str = "") -> None:
    """`region` and `connection` are of the newest, where they are known."""
    log.warning("border_refused", kind=kind.value, count=count, region=region, connection=connection)


@dataclass(frozen=True, slots=True, kw_only=True, order=True)
class Link:
    """A leaf link: its region by the account it ends in, and the name its server gave; empty where that is no name."""

    region: str
    node: str


class LinkWatch:
    """Compares the links of the hub's nats-server with the regions that have a document; `run` until cancelled."""

    def __init__(
        self,
        monitor: str | None,
        regions: Callable[[], Collection[str]],
        metrics: HubMetrics,
        book: LinkBook | None = None,
    ) -> None:
        """`book` is told of all links that stand."""
        self._monitor = monitor
        self._regions = regions
        self._metrics = metrics
        self._book = book
        self.unknown: tuple[Link, ...] = ()
        metrics.alarm.labels(LINK_UNKNOWN).set(0)

    async def run(self) -> None:
        """Look every few seconds."""
        if self._monitor is None:
            return
        timeout = aiohttp.ClientTimeout(total=ANSWER_WITHIN_S)
        async with aiohttp.ClientSession(timeout=timeout, raise_for_status=True) as session:
            while True:
                try:
                    async with session.get(f"{self._monitor}/leafz") as answer:
                        self.compare(await answer.json())
                except (aiohttp.ClientError, TimeoutError, ValueError) as error:
                    log.warning("links_not_seen", error=type(error).__name__)
                await asyncio.sleep(LOOK_EVERY_S)

    def compare(self, leafz: Mapping[str, object]) -> None:
        """Note which links of the server's answer are of no region, or of a server that has no proper name."""
        listed = leafz.get("leafs")
        leafs = [leaf for leaf in listed if isinstance(leaf, dict)] if isinstance(listed, list) else []
        links = {_link(leaf) for leaf in leafs}
        if self._book is not None:
            self._book.take([_standing(leaf) for leaf in leafs], time.monotonic())
        known = set(self._regions())
        unknown = tuple(sorted(link for link in links if link.region not in known or not link.node))
        if unknown != self.unknown:
            log.warning("links_unknown", links=[f"{link.region}/{link.node}" for link in unknown])
        self.unknown = unknown
        self._metrics.alarm.labels(LINK_UNKNOWN).set(int(bool(unknown)))


def _link(leaf: Mapping[str, object]) -> Link:
    region = str(leaf.get("account", "")).removeprefix(LINK_ACCOUNT_PREFIX)
    return Link(region=name_or_nothing(region), node=name_or_nothing(str(leaf.get("name", ""))))


def _standing(leaf: Mapping[str, object]) -> tuple[tuple[str, str], int]:
    link, number = _link(leaf), leaf.get("id")
    return (link.region, link.node), number if isinstance(number, int) else 0
