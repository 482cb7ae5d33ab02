"""One supervised child process of the local region: started, restarted when it dies, stopped within a bound.

In production systemd does this; here it is done so that `borough up` behaves the same without units.
"""

import asyncio
import contextlib
import signal
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

from provisioning.local.errors import ServiceStartError

RESTART_DELAY_S = 0.2
HOLD_LOOK_S = 0.2
LOOK_EVERY_S = 0.2
LOG_TAIL_LINES = 15


def pid_file(control: Path, name: str) -> Path:
    return control / f"{name}.pid"


def hold_file(control: Path, name: str) -> Path:
    return control / f"{name}.hold"


@dataclass(frozen=True, slots=True, kw_only=True)
class ServiceSpec:
    """How to run a service: `is_ready` returns once it serves; it is awaited within `ready_within_s`.

    `control` is where the outside sees the service: its process id is in `<name>.pid`, and while `<name>.hold` exists
    it is not started again (`borough service`).
    """

    name: str
    argv: Sequence[str]
    log: Path
    control: Path
    is_ready: Callable[[], Awaitable[bool]]
    ready_within_s: float = 60.0
    stop_within_s: float = 10.0


@dataclass(slots=True)
class Service:
    """A running service; `pid` changes when it is restarted, `restarts` counts how often."""

    spec: ServiceSpec
    pid: int = 0
    restarts: int = 0
    _process: asyncio.subprocess.Process | None = field(default=None, repr=False)
    _spawning: asyncio.Lock = field(default_factory=asyncio.Lock, repr=False)

    async def start(self) -> None:
        """Start the process and wait until it serves. Raises ServiceStartError with the end of its log."""
        await self._spawn()
        try:
            async with asyncio.timeout(self.spec.ready_within_s):
                while not await self.spec.is_ready():
                    await self._give_up_if_dead()
        except TimeoutError:
            await self.stop()
            raise ServiceStartError(self._complaint("was not ready in time")) from None

    async def keep_running(self) -> None:
        """Restart the process whenever it ends; runs until cancelled."""
        while True:
            assert self._process is not None
            await self._process.wait()
            await asyncio.sleep(RESTART_DELAY_S)
            while hold_file(self.spec.control, self.spec.name).exists():  # noqa: ASYNC110 - another process's file
                await asyncio.sleep(HOLD_LOOK_S)
            await self._spawn()
            self.restarts += 1

    async def stop(self) -> None:
        """End the process: SIGTERM, then SIGKILL after the deadline."""
        process = self._process
        if process is None or process.returncode is not None:
            return
        with contextlib.suppress(ProcessLookupError):
            process.send_signal(signal.SIGTERM)
        try:
            async with asyncio.timeout(self.spec.stop_within_s):
                await process.wait()
        except TimeoutError:
            process.kill()
            await process.wait()

    async def _spawn(self) -> None:
        """Start the process unless it runs: whoever stops and starts a service does so beside its keeper."""
        async with self._spawning:
            if self._process is None or self._process.returncode is not None:
                await self._spawn_anew()

    async def _spawn_anew(self) -> None:
        self.spec.log.parent.mkdir(parents=True, exist_ok=True)
        with self.spec.log.open("ab") as log:
            self._process = await asyncio.create_subprocess_exec(
                *self.spec.argv, stdin=asyncio.subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True
            )
        self.pid = self._process.pid
        self.spec.control.mkdir(parents=True, exist_ok=True)
        pid_file(self.spec.control, self.spec.name).write_text(str(self.pid), encoding="utf-8")

    async def _give_up_if_dead(self) -> None:
        assert self._process is not None
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(asyncio.shield(self._process.wait()), timeout=LOOK_EVERY_S)
        if self._process.returncode is not None:
            raise ServiceStartError(self._complaint(f"ended with exit code {self._process.returncode}"))

    def _complaint(self, what: str) -> str:
        lines = self.spec.log.read_text(encoding="utf-8", errors="replace").splitlines()[-LOG_TAIL_LINES:]
        return f"{self.spec.name} {what}; the end of {self.spec.log}:\n" + "\n".join(lines)


@asynccontextmanager
async def running(spec: ServiceSpec) -> AsyncIterator[Service]:
    """A service that is ready, kept running inside the block and stopped after it."""
    async with running_together([spec]) as (service,):
        yield service


@asynccontextmanager
async def running_together(specs: Sequence[ServiceSpec]) -> AsyncIterator[tuple[Service, ...]]:
    """Services that become ready only with each other, such as the servers of one cluster."""
    services = tuple(Service(spec) for spec in specs)
    for spec in specs:
        hold_file(spec.control, spec.name).unlink(missing_ok=True)
    outcomes = await asyncio.gather(*(service.start() for service in services), return_exceptions=True)
    failures = [outcome for outcome in outcomes if outcome is not None]
    if failures:
        for service in services:
            await service.stop()
        raise failures[0]
    async with asyncio.TaskGroup() as tasks:
        keepers = [tasks.create_task(one.keep_running(), name=f"service:{one.spec.name}") for one in services]
        try:
            yield services
        finally:
            for keeper, service in zip(keepers, services, strict=True):
                keeper.cancel()
                await service.stop()
                pid_file(service.spec.control, service.spec.name).unlink(missing_ok=True)
