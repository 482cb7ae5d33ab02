"""Stops a node that is to be switched off: in the order in which nothing is lost.

    address        keepalived: a sibling has the region's address within a second; calls that run do not need it
    calls          workers, when their calls have ended: those that still run are ended with an announcement
    front door     kamailio: nobody's requests come here any more
    telephony      Asterisk
    records        Litestream, which sends what workers wrote last; then the agent, which counts it
    models, NATS   which all of them asked; nats-server gives its streams' leadership to siblings as it goes

The cordon of the drain stays: a node that is started again takes no calls before `borough node undrain`.
"""

import asyncio
from dataclasses import dataclass

from provisioning.node.description import NodeDescription
from provisioning.node.places import Service
from provisioning.node.reloading import is_active, systemctl

ADDRESS = "keepalived"
# They would render, reload and start services while those end.
_WATCHES = ("borough-roster.path", "borough-roster.timer", "borough-renew.timer")
_SELF_TEST = "borough-selftest"
_TARGET = "borough.target"


@dataclass(frozen=True, slots=True)
class Stopping:
    """The services of one node."""

    node: NodeDescription

    async def give_address_away(self) -> bool:
        """Have a sibling hold the region's address; whether this node could have held it. Raises RenderError."""
        return await _stop(ADDRESS)

    async def stop(self) -> list[str]:
        """Stop what runs, in order; the units. Raises RenderError."""
        stopped = [unit for unit in (ADDRESS, *_WATCHES) if await _stop(unit)]
        # Also one that waits for its next try: it wants the workers.
        await systemctl("stop", _SELF_TEST)
        # Together: each ends the calls that it still has, which takes its time.
        workers = [f"{Service.CALLS}@{index}" for index in range(1, self.node.workers + 1)]
        ended = await asyncio.gather(*(_stop(worker) for worker in workers))
        stopped += [worker for worker, was_active in zip(workers, ended, strict=True) if was_active]
        rest = ("kamailio", Service.ASTERISK, Service.LITESTREAM, Service.AGENT, Service.INFERENCE)
        for unit in (*rest, Service.ARBITER, Service.NATS, _TARGET):
            if await _stop(unit):
                stopped.append(str(unit))
        return stopped


async def _stop(unit: str) -> bool:
    """Whether it ran."""
    if not await is_active(unit):
        return False
    await systemctl("stop", unit)
    return True
