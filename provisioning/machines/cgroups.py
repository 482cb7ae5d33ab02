"""A cgroup of its own for each machine: two systemds in one cgroup would end each other's services."""

import contextlib
import os
import shlex
from dataclasses import dataclass
from pathlib import Path

CGROUPS = Path("/sys/fs/cgroup")


@dataclass(frozen=True, slots=True)
class CgroupNest:
    """The cgroups of one machine, in every hierarchy that this machine has (one with cgroup v2, many with v1)."""

    name: str

    def directories(self) -> list[Path]:
        hierarchies = [CGROUPS] if (CGROUPS / "cgroup.procs").exists() else [p for p in CGROUPS.iterdir() if p.is_dir()]
        return [h / f"borough-{self.name}" for h in hierarchies if (h / "cgroup.procs").exists()]

    def enter_script(self) -> str:
        """Shell lines that make the cgroups and move the shell into them."""
        lines = []
        for directory in self.directories():
            own = shlex.quote(str(directory))
            lines.append(f"mkdir -p {own}")
            if (directory.parent / "cpuset.mems").exists():
                # With cgroup v1 a new cpuset is empty and takes nobody.
                lines += [f"cat {directory.parent}/{file} > {own}/{file}" for file in ("cpuset.cpus", "cpuset.mems")]
            lines.append(f"echo $$ > {own}/cgroup.procs")
        return "\n".join(lines)

    def remove(self) -> None:
        """Remove the cgroups, deepest first; what is still used stays."""
        for directory in self.directories():
            for below, _, _ in os.walk(directory, topdown=False):
                with contextlib.suppress(OSError):
                    Path(below).rmdir()
