"""Follows the bundle that the node agent made current, without a pause in service.

Theory of operation. `<sync>/current` is a symlink to `bundles/<version>`, swapped by rename. A swap is seen by inotify
on the folder (a watch on the link itself would follow it to the old target); every second it is looked at anyway, so a
lost event costs a second, not an update. Only tenants whose documents changed are loaded again; then the roster is
swapped whole. Prepared audio follows in the background, and what has none yet is synthesised live.

`<sync>/running/<worker>.json` tells the node agent what this worker runs, or why it refused; the worker holds a lock
on `<worker>.lock` beside it for as long as it lives. A bundle that cannot be loaded leaves the last good one running.
Knowledge follows its replica by itself; a tenant whose knowledge cannot be opened keeps its agents of before, and the
other tenants do not wait for it. It is named under `missing` and tried again, after twice as long each time; until it
is served, the bundle does not count as running here.

Tasks: `reload` (this follower), `knowledge` (one an agent, while it is on the roster), `prepared-audio` (at most one,
replaced by each swap). None ends a call.
"""

import asyncio
import contextlib
import fcntl
import json
import os
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Protocol

import apsw
import structlog

from contract.errors import BoroughError
from edge.call.agents import digest_of, tenant_folders
from edge.call.roster import Roster, ServedAgent, ServedRoster
from edge.conversation.conversation import AgentConversation
from edge.conversation.errors import DocumentsInvalidError
from edge.knowledge.errors import KnowledgeError, KnowledgeInvalidError
from edge.sync.folder_watch import changes

log = structlog.get_logger(__name__)

BROKE_LOADER = "call.bundle_broke_loader"
_FIRST_RETRY_S, _LONGEST_RETRY_S = 1.0, 60.0


class Loader(Protocol):
    """Makes a tenant's agents of its documents."""

    async def load(self, directory: Path, *, version: str) -> tuple[ServedAgent, ...]:
        """Raises BoroughError."""


@dataclass(frozen=True, slots=True, kw_only=True)
class BundleRefused:
    """A bundle that this worker cannot serve. `tenant` is empty when no single one is to blame."""

    bundle: int
    code: str
    tenant: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Running:
    """What a worker tells the node agent. `bundle` is the newest of which all tenants are served, 0 before the first;
    `missing` are the tenants of a newer one whose knowledge could not be opened yet.

    `calls_refused` for want of a slot, since `began_at_ns` (UTC since 1970), when the worker began to count.
    """

    bundle: int = 0
    refused: BundleRefused | None = None
    tenants: dict[str, str] = field(default_factory=dict)
    missing: tuple[str, ...] = ()
    knowledge: dict[str, int] = field(default_factory=dict)
    is_audio_prepared: bool = False
    began_at_ns: int = field(default_factory=time.time_ns)
    calls_refused: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class _LoadedTenant:
    """`digest` is that of the documents the agents were made of, empty where there are none for want of knowledge."""

    digest: str
    agents: tuple[ServedAgent, ...]


class _TenantRefusedError(Exception):
    def __init__(self, tenant: str, code: str) -> None:
        super().__init__(tenant)
        self.tenant = tenant
        self.code = code


class BundleFollower:
    """Keeps the roster on the current bundle of a sync folder."""

    def __init__(
        self,
        directory: Path,
        worker: str,
        *,
        loader: Loader,
        roster: ServedRoster,
        prepare: Callable[[Roster], Awaitable[object]],
        calls_refused: Callable[[], int] = lambda: 0,
    ) -> None:
        self._directory = directory
        self._running_file = directory / "running" / f"{worker}.json"
        self._loader = loader
        self._roster = roster
        self._prepare = prepare
        self._calls_refused = calls_refused
        self._tenants: dict[str, _LoadedTenant] = {}
        self._missing: tuple[str, ...] = ()
        self._retries = 0
        self._retry_at = 0.0
        self._swapped = 0
        self._running = Running()
        self._written: Running | None = None
        self._preparing: asyncio.Task[None] | None = None
        self._watching: dict[AgentConversation, asyncio.Task[None]] = {}

    @contextlib.asynccontextmanager
    async def following(self, tasks: asyncio.TaskGroup) -> AsyncIterator[None]:
        """Load what is on disk, then follow until the block ends."""
        with _alive(self._running_file.with_suffix(".lock")):
            self._write_running()
            await self._look(tasks)
            task = tasks.create_task(self._follow(tasks), name="reload")
            try:
                yield
            finally:
                for running in (task, self._preparing, *self._watching.values()):
                    if running is not None:
                        running.cancel()
                self._running_file.unlink(missing_ok=True)

    async def _follow(self, tasks: asyncio.TaskGroup) -> None:
        async for _ in changes(self._directory, ending="/current"):
            await self._look(tasks)

    async def _look(self, tasks: asyncio.TaskGroup) -> None:
        try:
            await self._catch_up(tasks)
            self._look_at_knowledge(tasks)
            self._running = replace(self._running, calls_refused=self._calls_refused())
            if self._written != self._running:
                self._write_running()
        except Exception:
            # Whatever is wrong with new documents or knowledge: the calls that run must not end for it.
            log.exception("reload_failed")

    async def _catch_up(self, tasks: asyncio.TaskGroup) -> None:
        """Bring the roster to the current bundle, if it is another; keep it where that cannot be loaded."""
        while (wanted := self._wanted()) is not None and not self._is_settled(version := int(wanted.name)):
            try:
                tenants, missing = await self._load(wanted)
            except _TenantRefusedError as error:
                self._refuse(BundleRefused(bundle=version, code=error.code, tenant=error.tenant))
            except (BoroughError, OSError) as error:
                # The models are away, or the folder was replaced while it was read: the next look tries again.
                log.warning("bundle_not_loaded", bundle=version, detail=type(error).__name__)
                return
            else:
                self._plan_retry(version, missing)
                if (version, tenants, missing) != (self._swapped, self._tenants, self._missing):
                    self._swap(version, tenants, missing, tasks)

    def _wanted(self) -> Path | None:
        try:
            return self._directory / os.readlink(self._directory / "current")  # noqa: PTH115 - relative, as it stands
        except FileNotFoundError:
            return None

    def _is_settled(self, version: int) -> bool:
        refused = self._running.refused
        if refused is not None and version == refused.bundle:
            return True
        return version == self._swapped and not (self._missing and time.monotonic() >= self._retry_at)

    def _plan_retry(self, version: int, missing: tuple[str, ...]) -> None:
        self._retries = self._retries + 1 if missing and version == self._swapped else 0
        self._retry_at = time.monotonic() + min(_FIRST_RETRY_S * 2**self._retries, _LONGEST_RETRY_S)

    async def _load(self, bundle: Path) -> tuple[dict[str, _LoadedTenant], tuple[str, ...]]:
        """Return the tenants to serve, and those of them whose knowledge could not be opened."""
        loaded: dict[str, _LoadedTenant] = {}
        missing: list[str] = []
        for directory in await asyncio.to_thread(tenant_folders, bundle):
            tenant = directory.name
            digest = await asyncio.to_thread(digest_of, directory)
            version = f"{bundle.name}-{digest}"
            known = self._tenants.get(tenant)
            if known is not None and known.digest == digest:
                agents = tuple(replace(served, version=version) for served in known.agents)
                loaded[tenant] = _LoadedTenant(digest=digest, agents=agents)
            elif (new := await self._load_tenant(directory, version)) is not None:
                loaded[tenant] = _LoadedTenant(digest=digest, agents=new)
            else:
                missing.append(tenant)
                loaded[tenant] = known or _LoadedTenant(digest="", agents=())
        return loaded, tuple(missing)

    async def _load_tenant(self, directory: Path, version: str) -> tuple[ServedAgent, ...] | None:
        """Return the tenant's agents, None where its knowledge cannot be opened now."""
        try:
            return await self._loader.load(directory, version=version)
        except KnowledgeError as error:
            if isinstance(error, KnowledgeInvalidError):
                raise _TenantRefusedError(directory.name, error.code) from error
            log.exception("tenant_without_knowledge", tenant=directory.name)
            return None
        except DocumentsInvalidError as error:
            raise _TenantRefusedError(directory.name, error.code) from error
        except (BoroughError, OSError):
            raise
        except Exception as error:
            # A document that breaks our loader must not end the calls that run.
            log.exception("bundle_broke_loader", tenant=directory.name)
            raise _TenantRefusedError(directory.name, BROKE_LOADER) from error

    def _swap(
        self, version: int, tenants: dict[str, _LoadedTenant], missing: tuple[str, ...], tasks: asyncio.TaskGroup
    ) -> None:
        digests = {name: tenant.digest for name, tenant in tenants.items() if tenant.digest}
        changed = digests.items() - self._running.tenants.items()
        self._tenants, self._missing, self._swapped = tenants, missing, version
        self._roster.swap(Roster(tuple(agent for tenant in tenants.values() for agent in tenant.agents)))
        self._running = replace(
            self._running,
            bundle=self._running.bundle if missing else version,
            refused=None,
            is_audio_prepared=False,
            tenants=digests,
            missing=missing,
            knowledge=self._knowledge_versions(),
        )
        self._write_running()
        log.info("bundle_swapped", bundle=version, tenants=len(tenants), changed=len(changed), missing=len(missing))
        self._watch_knowledge(tasks)
        self._start_preparing(tasks)

    def _watch_knowledge(self, tasks: asyncio.TaskGroup) -> None:
        """Have every agent on the roster follow its knowledge, and no other: a task would keep it in memory."""
        served = {agent.conversation for agent in self._roster.current.agents}
        for gone in self._watching.keys() - served:
            self._watching.pop(gone).cancel()
        for new in served - self._watching.keys():
            self._watching[new] = tasks.create_task(_follow_knowledge(new), name="knowledge")

    def _look_at_knowledge(self, tasks: asyncio.TaskGroup) -> None:
        """Tell of newer knowledge, and prepare the audio of what it says."""
        versions = self._knowledge_versions()
        if versions != self._running.knowledge:
            self._running = replace(self._running, knowledge=versions, is_audio_prepared=False)
            self._write_running()
            self._start_preparing(tasks)

    def _knowledge_versions(self) -> dict[str, int]:
        agents = [served.conversation for served in self._roster.current.agents]
        return {conversation.agent.tenant: conversation.knowledge_version for conversation in agents}

    def _start_preparing(self, tasks: asyncio.TaskGroup) -> None:
        if self._preparing is not None:
            self._preparing.cancel()
        self._preparing = tasks.create_task(self._prepare_audio(self._roster.current), name="prepared-audio")

    async def _prepare_audio(self, roster: Roster) -> None:
        try:
            await self._prepare(roster)
            self._running = replace(self._running, is_audio_prepared=True)
            self._write_running()
        except* (BoroughError, OSError) as group:
            log.warning("audio_not_prepared", errors=len(group.exceptions))

    def _refuse(self, refusal: BundleRefused) -> None:
        log.error("bundle_refused", bundle=refusal.bundle, tenant=refusal.tenant, code=refusal.code)
        self._running = replace(self._running, refused=refusal)
        self._write_running()

    def _write_running(self) -> None:
        partial = self._running_file.with_suffix(".partial")
        try:
            partial.write_text(json.dumps(asdict(self._running)), encoding="utf-8")
            partial.replace(self._running_file)
        except OSError as error:
            # A full disk: the next look writes it.
            log.warning("running_not_written", detail=type(error).__name__)
            return
        self._written = self._running


async def _follow_knowledge(conversation: AgentConversation) -> None:
    try:
        await conversation.watch_knowledge()
    except (BoroughError, OSError, RuntimeError, apsw.Error):
        # It still follows at every question.
        log.exception("knowledge_not_watched", tenant=conversation.agent.tenant)


@contextlib.contextmanager
def _alive(lock: Path) -> Iterator[None]:
    """Hold a lock that the kernel drops when this process dies, however it dies; shared, so nobody waits for it."""
    lock.parent.mkdir(parents=True, exist_ok=True)
    with lock.open("w", encoding="utf-8") as file:
        fcntl.flock(file, fcntl.LOCK_SH)
        yield
