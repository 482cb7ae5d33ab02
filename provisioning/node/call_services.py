"""Has the services of calls take new certificates: each is started anew while no call needs it.

systemd gives a unit its certificates when it starts. What a call worker began with is refused by siblings and by NATS
once the hub has confirmed the next one; but no call may end for that. So a worker is started anew when it carries no
call, one after the other, and inference when the whole node has none. Who is never found so is left for another day;
inference not for ever, since siblings answer for it meanwhile.
"""

import asyncio
import re
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import aiohttp

from provisioning.identity.names import ServiceRole
from provisioning.node.description import NodeDescription
from provisioning.node.identity_folder import CURRENT
from provisioning.node.inputs import Inputs
from provisioning.node.machine import worker_web_port
from provisioning.node.places import Service
from provisioning.node.reloading import is_active, shown, systemctl
from provisioning.node.rotation import Rotation

# Calls last minutes, and a worker has none every now and then.
QUIET_WITHIN_S = 180.0
LOOK_EVERY_S = 0.5
ANSWERS_WITHIN_S = 5.0
# Long before the certificate that it began with ends: renewal begins 90 days earlier.
INFERENCE_WAITS_S = 3 * 86_400.0
_ACTIVE_CALLS = re.compile(r"^borough_calls_active (\S+)$", re.MULTILINE)


@dataclass(frozen=True, slots=True)
class CallServices:
    """Those of one node."""

    inputs: Inputs
    node: NodeDescription

    async def restart(self, within_s: float = QUIET_WITHIN_S) -> list[str]:
        """Start anew whoever began with other certificates than those in use, as far as no call needs it in this time;
        each is ready again when the next one is started. Raises RenderError."""
        restarted = []
        loop = asyncio.get_running_loop()
        deadline = loop.time() + within_s
        waiting = await self.stale()
        while waiting:
            for unit in waiting:
                if await self._is_free(unit):
                    await systemctl("restart", unit)
                    restarted.append(unit)
            waiting = [unit for unit in waiting if unit not in restarted]
            if not waiting or loop.time() >= deadline:
                break
            await asyncio.sleep(LOOK_EVERY_S)
        return restarted

    async def stale(self) -> list[str]:
        """Units that run and began before the certificates that are in use were."""
        units = [self._worker(index) for index in self._indexes()] + [str(Service.INFERENCE)]
        return [unit for unit in units if await is_active(unit) and await self._began_s(unit) < self._in_use_s(unit)]

    async def _is_free(self, unit: str) -> bool:
        for index in self._indexes():
            if unit == self._worker(index):
                return await _calls_of(worker_web_port(index)) == 0
        waited_s = time.time() - self._in_use_s(unit)
        may_not_wait = waited_s > INFERENCE_WAITS_S and len(self.node.nodes) > 1
        return may_not_wait or Rotation(self.inputs.machine).running_calls() == 0

    def _indexes(self) -> Sequence[int]:
        return range(1, self.node.workers + 1)

    @staticmethod
    def _worker(index: int) -> str:
        return f"{Service.CALLS}@{index}"

    async def _began_s(self, unit: str) -> int:
        """Whole seconds since 1970."""
        return int((await shown(unit, "ExecMainStartTimestamp")).removeprefix("@") or 0)

    def _in_use_s(self, unit: str) -> int:
        """Since when, in whole seconds since 1970; 0 for a certificate that the node has not got."""
        role = ServiceRole.INFERENCE if unit == Service.INFERENCE else ServiceRole.CALLS
        return _changed_s(self.inputs.identity().root / role / CURRENT)


def _changed_s(link: Path) -> int:
    try:
        return int(link.lstat().st_mtime)
    except FileNotFoundError:
        return 0


async def _calls_of(web_port: int) -> float | None:
    """Calls in progress in a worker; None where it does not say."""
    url = f"http://127.0.0.1:{web_port}/metrics"
    try:
        timeout = aiohttp.ClientTimeout(total=ANSWERS_WITHIN_S)
        async with aiohttp.ClientSession(timeout=timeout) as session, session.get(url) as answer:
            found = _ACTIVE_CALLS.search(await answer.text())
    except (aiohttp.ClientError, TimeoutError):
        return None
    return float(found[1]) if found is not None else None
