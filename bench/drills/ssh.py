"""Commands on machines over SSH, as root; one connection a machine is kept open."""

import asyncio
import contextlib
import shlex
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from bench.drills.errors import DrillHandError

COMMAND_WITHIN_S = 30.0
# A machine that lost its power must not hold up who asks for it.
OPTIONS = {
    "BatchMode": "yes",
    "ConnectTimeout": "3",
    "ServerAliveInterval": "1",
    "ServerAliveCountMax": "3",
    "ControlMaster": "auto",
    "ControlPersist": "120",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class SshMachine:
    """How one machine is reached; `options` are the operator's own words for ssh, `sockets` a folder of short name."""

    name: str
    address: str
    user: str
    options: tuple[str, ...]
    sockets: Path

    async def run(self, command: Sequence[str], *, given: bytes = b"", within_s: float = COMMAND_WITHIN_S) -> str:
        """What a command prints. Raises DrillHandError when it fails or does not end in time."""
        line = shlex.join(command if self.user == "root" else ["sudo", "-n", *command])
        words = [word for name, value in OPTIONS.items() for word in ("-o", f"{name}={value}")]
        socket = ("-o", f"ControlPath={self.sockets / self.name}")
        # A connection that is kept open keeps the pipe of its first command's complaints, so they go to a file.
        with tempfile.TemporaryFile() as complaints:
            ssh = await asyncio.create_subprocess_exec(
                *("ssh", *self.options, *words, *socket, f"{self.user}@{self.address}", line),
                stdin=asyncio.subprocess.PIPE,
                stdout=asyncio.subprocess.PIPE,
                stderr=complaints,
            )
            try:
                async with asyncio.timeout(within_s):
                    out, _ = await ssh.communicate(given)
            except TimeoutError:
                raise DrillHandError(f"{self.name}: {command[0]}: no end after {within_s:.0f} s") from None
            finally:
                with contextlib.suppress(ProcessLookupError):
                    ssh.kill()
            complaints.seek(0)
            said = complaints.read().decode(errors="replace").strip()[-500:]
        if ssh.returncode != 0:
            raise DrillHandError(f"{self.name}: {command[0]}: exit code {ssh.returncode}: {said}")
        return out.decode()

    async def shell(self, script: str, *, within_s: float = COMMAND_WITHIN_S) -> str:
        """What a shell script prints; its first command that fails ends it."""
        return await self.run(["sh", "-eu"], given=script.encode(), within_s=within_s)
