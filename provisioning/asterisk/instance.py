"""Runs one Asterisk from the shared root image, in a mount and process namespace of its own.

The image is mounted read-only; the instance's directory appears in it as /srv. Nothing leaks: the namespaces, with
their mounts and every process, end with Asterisk, and Asterisk ends with whoever started it (PR_SET_PDEATHSIG).

Lifecycle: write settings -> start -> Asterisk reports READY=1 on NOTIFY_SOCKET (sd_notify(3), after all modules are
loaded) -> ARI answers -> ... -> SIGTERM -> bounded wait -> SIGKILL.
"""

import asyncio
import os
import signal
import socket
from contextlib import AsyncExitStack
from pathlib import Path
from types import TracebackType
from typing import Self

import aiohttp

from provisioning.asterisk.errors import AsteriskStartError
from provisioning.asterisk.render import INSIDE, render
from provisioning.asterisk.settings import AsteriskSettings

# Measured 1 to 2 s on an idle machine; a machine that builds something at the same time needs much longer.
START_TIMEOUT_S = 60.0
STOP_TIMEOUT_S = 5.0
LOG_TAIL_LINES = 12
DIRECTORIES = ("etc", "run", "log", "spool", "lib", "recordings")

# The user is changed by setpriv and not by chroot --userspec: changing it clears the parent-death signal (prctl(2)),
# which must therefore be set after it.
_ENTER = """
mount --bind "$1" "$1"
mount -o remount,ro,bind "$1"
mount --bind "$2" "$1/srv"
mount -t tmpfs -o mode=1777,size=64m tmpfs "$1/tmp"
mount -t proc proc "$1/proc"
mount --rbind /dev "$1/dev"
if [ -e /etc/resolv.conf ] && [ -f "$1/etc/resolv.conf" ]; then
  mount --bind "$(readlink -f /etc/resolv.conf)" "$1/etc/resolv.conf"
fi
exec nice -n "$3" chroot "$1" setpriv --reuid "$4" --regid "$4" --clear-groups --pdeathsig KILL \\
  /usr/sbin/asterisk -C /srv/etc/asterisk.conf -f
"""


def start_command(image_root: Path, settings: AsteriskSettings) -> list[str]:
    """The command that runs this instance in the foreground; systemd uses it too. Needs root.

    `write_configuration` goes before it.
    """
    return [
        *("setpriv", "--pdeathsig", "KILL"),
        *("unshare", "--mount", "--pid", "--fork", "--kill-child=KILL"),
        *("sh", "-eu", "-c", _ENTER, "borough-asterisk"),
        str(image_root.resolve()),
        str(settings.directory.resolve()),
        str(settings.niceness),
        str(settings.user_id),
    ]


def write_configuration(settings: AsteriskSettings) -> None:
    """Make the instance's directory and write its settings, readable by Asterisk's user only."""
    settings.directory.mkdir(parents=True, exist_ok=True)
    settings.directory.chmod(0o755)
    for name in DIRECTORIES:
        directory = settings.directory / name
        directory.mkdir(exist_ok=True)
        os.chown(directory, settings.user_id, settings.user_id)
        directory.chmod(0o750)
    for name, text in render(settings).items():
        path = settings.directory / "etc" / name
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        with os.fdopen(descriptor, "w", encoding="utf-8") as file:
            file.write(text)
        os.chown(path, settings.user_id, settings.user_id)


class AsteriskInstance:
    """A running Asterisk: `async with AsteriskInstance(root, settings) as asterisk`. Raises AsteriskStartError."""

    def __init__(self, image_root: Path, settings: AsteriskSettings) -> None:
        self.settings = settings
        self._image_root = image_root
        self._stack = AsyncExitStack()
        self._process: asyncio.subprocess.Process | None = None

    @property
    def pid(self) -> int:
        """Process id of Asterisk itself as seen from outside the image."""
        parent = self._running().pid
        children = Path(f"/proc/{parent}/task/{parent}/children").read_text(encoding="ascii")
        return int(children.split()[0])

    async def __aenter__(self) -> Self:
        write_configuration(self.settings)
        async with AsyncExitStack() as stack:
            notifications = stack.enter_context(_open_notify_socket(self.settings.directory / "run" / "notify"))
            output = stack.enter_context((self.settings.directory / "log" / "output.log").open("wb"))
            self._process = await asyncio.create_subprocess_exec(
                *start_command(self._image_root, self.settings),
                stdin=asyncio.subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                env={"PATH": os.environ["PATH"], "NOTIFY_SOCKET": f"{INSIDE}/run/notify", "TERM": "dumb"},
            )
            stack.push_async_callback(self.stop)
            await self._wait_until_ready(notifications)
            self._stack = stack.pop_all()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._stack.aclose()

    async def stop(self) -> None:
        """End it: politely, and after five seconds for sure."""
        process = self._process
        if process is None or process.returncode is not None:
            return
        try:
            os.kill(self.pid, signal.SIGTERM)
            async with asyncio.timeout(STOP_TIMEOUT_S):
                await process.wait()
        except (TimeoutError, IndexError, ProcessLookupError, FileNotFoundError):
            self.kill()
            async with asyncio.timeout(STOP_TIMEOUT_S):
                await process.wait()

    def kill(self) -> None:
        """End it at once, as a crash would."""
        if self._process is not None and self._process.returncode is None:
            self._process.kill()

    async def wait(self) -> int:
        """Return the exit status once it has ended."""
        return await self._running().wait()

    def log_tail(self) -> str:
        """The last lines it logged or printed."""
        lines: list[str] = []
        for path in (self.settings.log_file, self.settings.directory / "log" / "output.log"):
            if path.is_file():
                lines += path.read_text(encoding="utf-8", errors="replace").splitlines()[-LOG_TAIL_LINES:]
        return "\n".join(lines)

    def _running(self) -> asyncio.subprocess.Process:
        if self._process is None:
            raise AsteriskStartError(f"asterisk {self.settings.name} is not running", hint="enter its context first")
        return self._process

    async def _wait_until_ready(self, notifications: socket.socket) -> None:
        try:
            async with asyncio.timeout(START_TIMEOUT_S):
                await self._wait_for_notification(notifications)
                await self._check_ari()
        except TimeoutError as error:
            raise self._not_started(f"was not ready after {START_TIMEOUT_S:.0f} s") from error
        except aiohttp.ClientError as error:
            raise self._not_started(f"does not answer on ARI: {error}") from error

    async def _wait_for_notification(self, notifications: socket.socket) -> None:
        process = self._running()
        async with asyncio.TaskGroup() as group:
            ended = group.create_task(process.wait(), name=f"asterisk:{self.settings.name}:ended")
            ready = group.create_task(_receive_ready(notifications), name=f"asterisk:{self.settings.name}:ready")
            await asyncio.wait({ended, ready}, return_when=asyncio.FIRST_COMPLETED)
            is_ready = ready.done()
            ended.cancel()
            ready.cancel()
        if not is_ready:
            raise self._not_started(f"ended with status {process.returncode}")

    async def _check_ari(self) -> None:
        settings = self.settings
        headers = {"Authorization": aiohttp.encode_basic_auth(settings.ari.user, settings.ari.password)}
        async with (
            aiohttp.ClientSession(headers=headers, raise_for_status=True) as session,
            session.get(f"{settings.ari_url}/asterisk/info") as answer,
        ):
            await answer.read()

    def _not_started(self, what: str) -> AsteriskStartError:
        return AsteriskStartError(
            f"asterisk {self.settings.name} {what}; its last lines:\n{self.log_tail()}",
            hint=f"is port {self.settings.sip_port} or {self.settings.http_port} taken? see {self.settings.log_file}",
        )


def _open_notify_socket(path: Path) -> socket.socket:
    path.unlink(missing_ok=True)
    opened = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK)
    opened.bind(str(path))
    path.chmod(0o666)
    return opened


async def _receive_ready(notifications: socket.socket) -> None:
    loop = asyncio.get_running_loop()
    while b"READY=1" not in (await loop.sock_recv(notifications, 4096)).splitlines():
        continue
