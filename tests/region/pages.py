"""Does what a page of docs/operations says, as its reader would: the commands of its console blocks, in their order."""

import os
import re
import shlex
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from provisioning.local.layout import REPOSITORY
from provisioning.machines.region import RegionRehearsal

PAGES = REPOSITORY / "docs" / "operations"
ANSIBLE = REPOSITORY / "ansible"
PAGE_TIMEOUT_S = 3000.0
SSH_OPTIONS = ("-o", "StrictHostKeyChecking=no", "-o", "UserKnownHostsFile=/dev/null", "-o", "LogLevel=ERROR")
_BLOCK = re.compile(r"^```console\n(.*?)^```$", re.MULTILINE | re.DOTALL)
_COMMAND = re.compile(r"^\$ (.+)$", re.MULTILINE)
EVERYTHING = slice(None)


def blocks_of(page: str) -> list[list[str]]:
    """The commands of a page, by its name without `.md`; each console block is a list."""
    text = (PAGES / f"{page}.md").read_text(encoding="utf-8")
    return [_COMMAND.findall(block) for block in _BLOCK.findall(text)]


@dataclass(frozen=True, slots=True, kw_only=True)
class Reader:
    """A member of a regional team whose region is a rehearsal; the pages' example names are the rehearsal's own."""

    region: RegionRehearsal

    def follow(self, page: str, blocks: slice = EVERYTHING) -> str:
        """Type the page's commands, or those of some blocks, in one shell, in `ansible/`; fails at the first error.

        Returns what was printed.
        """
        commands = [self._meant(command) for block in blocks_of(page)[blocks] for command in block]
        assert commands, f"{page}.md has no commands"
        done = subprocess.run(
            ["bash", "-eux", "-c", "\n".join(commands)],
            cwd=ANSIBLE,
            env=self._environment(),
            check=False,
            text=True,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            timeout=PAGE_TIMEOUT_S,
        )
        with self.region.player.log.open("a", encoding="utf-8") as log:
            log.write(f"# {page}.md\n{done.stdout}\n")
        assert done.returncode == 0, f"{page}.md:\n" + "\n".join(done.stdout.splitlines()[-80:])
        return done.stdout

    def _environment(self) -> dict[str, str]:
        return {
            **os.environ,
            "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
            "BOROUGH_CONTEXT": str(self.region.inventory / "admin" / "context.toml"),
            "ANSIBLE_NOCOLOR": "1",
        }

    def _meant(self, command: str) -> str:
        inventory = str(self.region.inventory)
        named = command.replace("$PWD/inventories/in-south", inventory).replace("inventories/in-south", inventory)
        documents = str(self.region.seeding.documents)
        named = re.sub(r"(?<=-f )documents\b", lambda _: shlex.quote(documents), named)
        return re.sub(r"^ssh ", lambda _: f"{shlex.join(self._ssh())} ", named)

    def _ssh(self) -> Sequence[str]:
        return ("ssh", "-n", "-i", str(self.region.rehearsal.key), *SSH_OPTIONS)
