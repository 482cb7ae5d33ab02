"""A worker's part in its region: telling where calls stand, going on with calls that were cut off elsewhere.

Nothing of it may cost a call: what breaks here is logged, counted and begun again. Tasks: `region:<name>`, each for the
life of the worker.
"""

import asyncio
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager
from dataclasses import dataclass

import structlog

from contract.subjects import SESSIONS_INBOX
from edge.call.cut_off_marks import CutOffMarks
from edge.call.neighbours import neighbours_of
from edge.call.owner import OwnerAnswers, Owners
from edge.call.region_ring_backs import RegionRingBacks
from edge.call.region_sessions import RegionSessions
from edge.call.session_entry import SessionSeal
from edge.call.session_store import SessionStore
from edge.call.settings import RecordsSection, SessionsSection
from edge.inference.client_settings import SiblingSection
from edge.observability.metrics import CallMetrics
from edge.records.model import Record
from edge.sync.connection import NatsLink
from edge.sync.settings import CertificateSection, NatsSection

log = structlog.get_logger(__name__)

BEGIN_AGAIN_S = 5.0
CANCEL_AGAIN_S = 0.2
# The last states of calls that were ended by the stop.
TOLD_WITHIN_S = 2.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Region:
    """What the calls of a worker use of it, and what is to be started once calls of dead workers were looked after."""

    link: NatsLink
    sessions: RegionSessions
    answers: OwnerAnswers
    ring_backs: RegionRingBacks
    marks: CutOffMarks


def join(
    settings: SessionsSection,
    records: RecordsSection,
    run: str,
    *,
    metrics: CallMetrics,
    keep: Callable[[Record], None],
    siblings: SiblingSection | None = None,
) -> Region | None:
    """The worker's part, or None where its certificate cannot be read: it then works as on a node on its own.

    `siblings`: where other machines of the region give a sign of life; None where the region is this machine alone.
    """
    certificate = None
    if settings.certificate is not None and settings.key is not None:
        certificate = CertificateSection(certificate=settings.certificate, key=settings.key)
    nats = NatsSection(urls=settings.urls, ca=settings.authority)
    try:
        link = NatsLink("calls", nats, certificate, inbox_prefix=SESSIONS_INBOX)
    except OSError as error:
        log.error("region_not_joined", detail=type(error).__name__)  # noqa: TRY400
        return None
    store, seal = SessionStore(link), SessionSeal(records.subject_key_file.read_bytes())
    sessions = RegionSessions(store=store, seal=seal, node=settings.node, run_id=run, metrics=metrics)
    owners = Owners(link=link, node=settings.node, neighbours=neighbours_of(siblings))
    return Region(
        link=link,
        sessions=sessions,
        answers=OwnerAnswers(
            link=link, node=settings.node, calls=sessions, records=records.directory, settings=records.database()
        ),
        ring_backs=RegionRingBacks(store=store, seal=seal, owners=owners, metrics=metrics),
        marks=CutOffMarks(
            store=store,
            seal=seal,
            node=settings.node,
            directory=records.directory,
            settings=records.database(),
            keep=keep,
        ),
    )


@asynccontextmanager
async def taking_part(region: Region) -> AsyncIterator[None]:
    """Be connected and tell, for the length of the block; at its end what waits is told, if NATS takes it.

    Enter it before the group of the calls: their ends are told, too.
    """
    works = {"nats": region.link.run, "sessions": region.sessions.run, "owner": region.answers.run}
    async with asyncio.TaskGroup() as tasks:
        running = [spawn(tasks, name, work) for name, work in works.items()]
        try:
            yield
        finally:
            await region.sessions.flush(TOLD_WITHIN_S)
            await end(running)


def spawn(tasks: asyncio.TaskGroup, name: str, work: Callable[[], Coroutine[None, None, None]]) -> asyncio.Task[None]:
    """Run it for ever, whatever it raises."""
    return tasks.create_task(_sheltered(name, work), name=f"region:{name}")


async def end(running: list[asyncio.Task[None]]) -> None:
    """Cancel until all have ended: nats-py swallows a cancellation that meets it while it flushes."""
    while pending := [task for task in running if not task.done()]:
        for task in pending:
            task.cancel()
        await asyncio.wait(pending, timeout=CANCEL_AGAIN_S)


async def _sheltered(name: str, work: Callable[[], Coroutine[None, None, None]]) -> None:
    while True:
        try:
            await work()
        except Exception:
            # Calls of ours are running: they must not end because the region cannot be told of them.
            log.exception("region_task_broke", task=name)
        await asyncio.sleep(BEGIN_AGAIN_S)
