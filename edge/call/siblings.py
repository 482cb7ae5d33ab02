"""The other call workers of this node: who they are, and whether they live.

Theory of operation. Every worker listens on a unix socket in a folder that all of them share, and when it starts it
connects to those that are there; so each pair has one connection, and nobody looks for newcomers. Over it both say who
they are (one line of JSON) and then send a byte twice a second.

Death is told by the kernel: a pidfd of the peer becomes readable when its process has ended, however it ended, and its
locks (its run, its slots) are free by then. Nothing is asked again and again.

A peer that sends nothing for `SILENT_AFTER_S` hangs, or was stopped. Its callers hear silence and Asterisk goes on to
send it new ones, so it is taken for dead. It must not wake up beside whoever adopts its calls: it is ended with
SIGKILL, which a stopped process cannot outlive, and its death is then told as any other. Where it cannot be ended
nothing is adopted.

A peer that stops says so: it takes nothing over any more, so nothing must be left to it.
"""

import asyncio
import contextlib
import json
import math
import os
import secrets
import signal
import socket
import struct
import time
from collections.abc import Awaitable, Callable, Coroutine
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Self

import structlog

log = structlog.get_logger(__name__)

FOLDER = "workers"
NAME_BYTES = 4
PULSE = b"."
GOODBYE = b"!"
STOPPING = b"-"
PULSE_EVERY_S = 0.5
# Longer than any pause of a loop that still serves calls: the rated load leaves it late by milliseconds.
SILENT_AFTER_S = 4.0
# After this loop itself was late, what the peer sent meanwhile is read before it is judged.
CONFIRM_AFTER_S = 0.5
LONGEST_HELLO_BYTES = 512
STALE_AFTER_S = 10.0
_CREDENTIALS = struct.Struct("3i")


@dataclass(frozen=True, slots=True, kw_only=True)
class Sibling:
    """A run of a worker of this node. `app` is its Stasis app."""

    run: str
    app: str


@dataclass(slots=True, kw_only=True)
class _Link:
    sibling: Sibling
    pidfd: int
    writer: asyncio.StreamWriter
    heard: float
    is_leaving: bool = False
    is_stopping: bool = False
    is_over: bool = False


class Siblings:
    """Async context manager; holds the links to all other workers while it is open.

    `on_death` is awaited once for each sibling that died; `on_hung` counts one that hung and was ended; `on_change` is
    told how many there are.
    """

    def __init__(
        self,
        directory: Path,
        me: Sibling,
        *,
        on_death: Callable[[Sibling], Awaitable[None]],
        on_hung: Callable[[], None] = lambda: None,
        on_change: Callable[[int], None] = lambda _: None,
    ) -> None:
        self._on_change = on_change
        self._directory = directory / FOLDER
        self._me = me
        self._on_death = on_death
        self._on_hung = on_hung
        self._links: dict[str, _Link] = {}
        self._is_stopping = False
        self._holding: set[asyncio.Task[None]] = set()
        self._stack = contextlib.AsyncExitStack()
        self._socket = self._directory / secrets.token_hex(NAME_BYTES)

    @property
    def known(self) -> tuple[Sibling, ...]:
        """Who lives."""
        return tuple(link.sibling for link in self._links.values())

    @property
    def has_stand_in(self) -> bool:
        """Whether somebody lives who would go on with our calls now."""
        now = asyncio.get_running_loop().time()
        return any(
            not link.is_stopping and not link.is_leaving and now - SILENT_AFTER_S < link.heard <= now
            for link in self._links.values()
        )

    def take_nothing_over(self) -> None:
        """Tell all, and whoever comes, that we stop."""
        self._is_stopping = True
        for link in self._links.values():
            self._send(link, STOPPING)

    async def __aenter__(self) -> Self:
        async with contextlib.AsyncExitStack() as stack:
            self._tasks = await stack.enter_async_context(asyncio.TaskGroup())
            stack.callback(self._close)
            self._directory.mkdir(mode=0o770, parents=True, exist_ok=True)
            server = await asyncio.start_unix_server(self._serve, path=_address(self._socket))
            stack.callback(self._socket.unlink, missing_ok=True)
            stack.callback(server.close)
            self._pulsing = asyncio.get_running_loop().call_later(PULSE_EVERY_S, self._pulse)
            # Bound first, then looked around: of two that start together at least one sees the other.
            for path in self._directory.iterdir():
                if path != self._socket:
                    await self._connect(path)
            self._stack = stack.pop_all()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._stack.__aexit__(kind, error, trace)

    def _close(self) -> None:
        self._pulsing.cancel()
        for holding in self._holding:
            holding.cancel()
        for link in list(self._links.values()):
            self._send(link, GOODBYE)
            self._drop(link)

    # Meeting.

    async def _connect(self, path: Path) -> None:
        try:
            reader, writer = await asyncio.open_unix_connection(_address(path))
        except (ConnectionError, FileNotFoundError):
            _clear(path)
            return
        self._keep(self._hold(reader, writer, is_ours=True))

    def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._keep(self._hold(reader, writer, is_ours=False))

    def _keep(self, work: Coroutine[None, None, None]) -> None:
        holding = self._tasks.create_task(work, name="siblings:link")
        self._holding.add(holding)
        holding.add_done_callback(self._holding.discard)

    async def _hold(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, *, is_ours: bool) -> None:
        """Keep one link until the other end closes it. `is_ours`: we connected."""
        try:
            pidfd = _pidfd_of(writer)
        except OSError:
            writer.close()
            return
        link: _Link | None = None
        try:
            writer.write(json.dumps({"run": self._me.run, "app": self._me.app}).encode() + b"\n")
            link = self._begin(_parse(await reader.readuntil(b"\n")), pidfd, writer, is_ours=is_ours)
            while link is not None and (data := await reader.read(1024)):
                link.heard = asyncio.get_running_loop().time()
                link.is_leaving |= GOODBYE in data
                link.is_stopping |= STOPPING in data
        except (ConnectionError, asyncio.IncompleteReadError, asyncio.LimitOverrunError, ValueError):
            pass
        finally:
            writer.close()
            if link is None:
                os.close(pidfd)
            else:
                # Nothing more is to be heard of it. That is no death; its process tells when it has ended.
                link.heard = math.inf

    def _begin(self, sibling: Sibling, pidfd: int, writer: asyncio.StreamWriter, *, is_ours: bool) -> _Link | None:
        """The link, or None where there is another: both connected at the same time, and both keep the same one."""
        loop = asyncio.get_running_loop()
        if (older := self._links.get(sibling.run)) is not None:
            if is_ours != (self._me.run < sibling.run):
                return None
            self._drop(older)
        link = _Link(sibling=sibling, pidfd=pidfd, writer=writer, heard=loop.time())
        self._links[sibling.run] = link
        if self._is_stopping:
            self._send(link, STOPPING)
        self._on_change(len(self._links))
        loop.add_reader(pidfd, self._died, link)
        log.info("sibling_met", sibling=sibling.app)
        return link

    # Dying.

    def _died(self, link: _Link) -> None:
        self._drop(link)
        if link.is_leaving:
            log.info("sibling_left", sibling=link.sibling.app)
        else:
            log.warning("sibling_died", sibling=link.sibling.app)
        self._tasks.create_task(self._tell(link.sibling), name=f"siblings:{link.sibling.app}:death")

    async def _tell(self, sibling: Sibling) -> None:
        try:
            await self._on_death(sibling)
        except Exception:
            # Calls of ours are running: they must not end because those of another could not be saved.
            log.exception("sibling_not_taken_over", sibling=sibling.app)

    def _drop(self, link: _Link) -> None:
        if link.is_over:
            return
        link.is_over = True
        if self._links.get(link.sibling.run) is link:
            del self._links[link.sibling.run]
            self._on_change(len(self._links))
        asyncio.get_running_loop().remove_reader(link.pidfd)
        os.close(link.pidfd)
        link.writer.close()

    # Living.

    def _pulse(self) -> None:
        loop = asyncio.get_running_loop()
        self._pulsing = loop.call_later(PULSE_EVERY_S, self._pulse)
        for link in list(self._links.values()):
            self._send(link, PULSE)
            if loop.time() - link.heard > SILENT_AFTER_S:
                # Not again before it has been looked at.
                link.heard = loop.time() + CONFIRM_AFTER_S
                self._tasks.create_task(self._end_if_hung(link, link.heard), name="siblings:hung")

    @staticmethod
    def _send(link: _Link, word: bytes) -> None:
        if not link.writer.is_closing():
            link.writer.write(word)

    async def _end_if_hung(self, link: _Link, since: float) -> None:
        await asyncio.sleep(CONFIRM_AFTER_S)
        if link.is_over or link.heard != since:
            return
        log.error("sibling_hangs", sibling=link.sibling.app, silent_s=SILENT_AFTER_S)
        try:
            signal.pidfd_send_signal(link.pidfd, signal.SIGKILL)
        except OSError as error:
            log.error("sibling_not_ended", sibling=link.sibling.app, detail=str(error))  # noqa: TRY400
        else:
            self._on_hung()


def _parse(line: bytes) -> Sibling:
    """Raises ValueError."""
    if len(line) > LONGEST_HELLO_BYTES:
        raise ValueError("too long for a name")
    message = json.loads(line)
    if not isinstance(message, dict):
        raise ValueError("not an object")  # noqa: TRY004 - bad input, not a bug
    run, app = message.get("run"), message.get("app")
    if not isinstance(run, str) or not isinstance(app, str):
        raise ValueError("no run or no app")  # noqa: TRY004 - bad input, not a bug
    return Sibling(run=run, app=app)


def _pidfd_of(writer: asyncio.StreamWriter) -> int:
    """A pidfd of the process at the other end. Raises OSError when it has ended."""
    raw = writer.get_extra_info("socket").getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _CREDENTIALS.size)
    pid, _, _ = _CREDENTIALS.unpack(raw)
    return os.pidfd_open(pid)


def _address(path: Path) -> str:
    return str(path)


def _clear(path: Path) -> None:
    """Remove the socket of a dead worker; a young one may be about to listen."""
    with contextlib.suppress(FileNotFoundError):
        if time.time() - path.stat().st_mtime > STALE_AFTER_S:
            path.unlink()
