"""A program that tells systemd nothing is told of truly: when it serves, hangs, reloads, drains and ends."""

import asyncio
import os
import signal
import socket
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

WATCHDOG_US = 300_000
# Answers its health page 200 once the file `well` is there; notes its signals in the file `signals`.
PROGRAM = """\
import http.server, pathlib, signal, sys, threading
port, folder = int(sys.argv[1]), pathlib.Path(sys.argv[2])
def note(number, frame):
    with (folder / "signals").open("a") as file: file.write(signal.Signals(number).name + "\\n")
    if number == signal.SIGTERM: threading.Thread(target=server.shutdown).start()
for number in (signal.SIGHUP, signal.SIGUSR2, signal.SIGTERM): signal.signal(number, note)
class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(200 if (folder / "well").exists() else 503)
        self.end_headers()
        self.wfile.write(b"recovers")
    def log_message(self, *_): pass
server = http.server.ThreadingHTTPServer(("127.0.0.1", port), Handler)
(folder / "pid").write_text(str(__import__("os").getpid()))
server.serve_forever()
sys.exit(7)
"""


class Told:
    """What systemd is told."""

    def __init__(self, path: Path) -> None:
        self.socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK)
        self.socket.bind(str(path))

    async def until(self, wanted: str, within_s: float = 20.0) -> list[str]:
        lines: list[str] = []
        async with asyncio.timeout(within_s):
            while not any(wanted in line for line in lines):
                lines += (await asyncio.get_running_loop().sock_recv(self.socket, 4096)).decode().split("\n")
        return lines

    def drain(self) -> None:
        """Forget what came so far."""
        while True:
            try:
                self.socket.recv(4096)
            except BlockingIOError:
                return


def free_port() -> int:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return int(found.getsockname()[1])


@asynccontextmanager
async def pulse(
    folder: Path, *argv: str, module: str = "pulse"
) -> AsyncIterator[tuple[asyncio.subprocess.Process, Told]]:
    """The pulse as systemd would start it."""
    told = Told(folder / "notify")
    environment = {**os.environ, "NOTIFY_SOCKET": str(folder / "notify"), "WATCHDOG_USEC": str(WATCHDOG_US)}
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", f"provisioning.{module}", *argv, env=environment
    )
    try:
        yield process, told
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
        told.socket.close()


def program(folder: Path, port: int) -> list[str]:
    (folder / "program.py").write_text(PROGRAM, encoding="utf-8")
    return [sys.executable, str(folder / "program.py"), str(port), str(folder)]


async def ends(process: asyncio.subprocess.Process) -> int:
    async with asyncio.timeout(20):
        return await process.wait()


async def test_a_program_is_ready_when_its_page_says_so_and_drains_before_it_ends(tmp_path: Path) -> None:
    """READY only after 200; SIGHUP reaches it; SIGTERM becomes a drain and then SIGTERM; its status is the pulse's."""
    port = free_port()
    argv = [
        "--health",
        f"http://127.0.0.1:{port}/healthz?js=1",
        "--drain-signal",
        "USR2",
        "--drain-s",
        "0.3",
        "--",
    ]
    async with pulse(tmp_path, *argv, *program(tmp_path, port)) as (process, told):
        assert "READY=1" not in await told.until("starts: 503 recovers")
        (tmp_path / "well").touch()
        assert "READY=1" in await told.until("STATUS=serves")
        process.send_signal(signal.SIGHUP)
        await told.until("WATCHDOG=1")
        process.terminate()
        assert await ends(process) == 7
        await told.until("STOPPING=1")
    assert (tmp_path / "signals").read_text().split() == ["SIGHUP", "SIGUSR2", "SIGTERM"]


async def test_a_program_that_hangs_gives_no_sign_of_life(tmp_path: Path) -> None:
    """Its page unanswered, nothing but the problem is told; and it is told well again when it goes on."""
    port = free_port()
    (tmp_path / "well").touch()
    argv = ["--health", f"http://127.0.0.1:{port}/", "--", *program(tmp_path, port)]
    async with pulse(tmp_path, *argv) as (process, told):
        await told.until("READY=1")
        os.kill(int((tmp_path / "pid").read_text()), signal.SIGSTOP)
        await told.until("does not answer: TimeoutError")
        told.drain()
        assert "WATCHDOG=1" not in await told.until("does not answer")
        os.kill(int((tmp_path / "pid").read_text()), signal.SIGCONT)
        await told.until("WATCHDOG=1")
        process.terminate()
        await ends(process)


async def test_a_program_that_dies_takes_the_pulse_along(tmp_path: Path) -> None:
    """The pulse ends with 128 + the signal, so that the unit knows that it failed."""
    port = free_port()
    (tmp_path / "well").touch()
    argv = ["--health", f"http://127.0.0.1:{port}/", "--", *program(tmp_path, port)]
    async with pulse(tmp_path, *argv) as (process, told):
        await told.until("READY=1")
        os.kill(int((tmp_path / "pid").read_text()), signal.SIGKILL)
        assert await ends(process) == 128 + signal.SIGKILL


@pytest.mark.parametrize("is_well", [True, False])
async def test_a_watched_program_is_killed_only_when_it_is_silent(tmp_path: Path, *, is_well: bool) -> None:
    """Any answer is a sign of life, also a refusal; silence for longer than allowed is not."""
    port = free_port()
    if is_well:
        (tmp_path / "well").touch()
    watched = await asyncio.create_subprocess_exec(*program(tmp_path, port))
    page = f"http://127.0.0.1:{port}/ari"
    argv = ["--page", page, "--pid-file", str(tmp_path / "pid"), "--give-up-s", "1"]
    async with pulse(tmp_path, *argv, module="silence") as (process, told):
        await told.until("STATUS=answers")
        watched.send_signal(signal.SIGSTOP)
        assert await ends(watched) == -signal.SIGKILL
        assert await ends(process) == 0
