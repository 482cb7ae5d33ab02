"""A region of real machines, reached over SSH as the inventory says, called at its virtual address."""

import asyncio
import datetime as dt
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

from bench.drills import audit_on_node, cuts, held_on_node, on_node
from bench.drills.errors import DrillHandError, DrillImpossibleError
from bench.drills.holdings import Holdings, holdings_of
from bench.drills.inventory import InventoryNode, RegionInventory
from bench.drills.kinds import DrillKind, PartitionShape
from bench.drills.power import PowerSwitch
from bench.drills.region import Blow, Chain, NodeHealth, RunningCall, Struck, Turn
from bench.drills.ssh import SshMachine
from bench.rehearsal import RTP_FIRST, RTP_LAST, SIP_PORT
from bench.target import CarrierPlace, NodeProcesses, Trunk, numbers_of
from provisioning.local.layout import StateLayout

PYTHON = "/opt/borough/current/bin/python"
SETTINGS = "/etc/borough/rendered"
UNITS = ("borough-nats", "borough-inference", "borough-asterisk", "borough-agent", "borough-litestream")
FRONT_DOOR = ("kamailio", "keepalived")
HUB_UNITS = ("borough-nats", "borough-authority", "borough-controlplane")
LOOK_WITHIN_S = 20.0
STRIKE_WITHIN_S = 60.0
# It looks at every process.
HELD_WITHIN_S = 60.0
# Every entry of a chain is hashed.
AUDIT_WITHIN_S = 180.0


@dataclass(frozen=True, slots=True, kw_only=True)
class MachinesRegion:
    """One region; `tenants` are the documents that say which numbers it answers."""

    inventory: RegionInventory
    power: PowerSwitch
    layout: StateLayout
    tenants: Path

    @property
    def name(self) -> str:
        return self.inventory.region

    @property
    def nodes(self) -> tuple[str, ...]:
        return tuple(node.machine.name for node in self.inventory.nodes)

    @property
    def is_rehearsal(self) -> bool:
        return False

    @property
    def trunk(self) -> Trunk:
        place = self.inventory
        return Trunk(
            state=self.layout,
            sip=(place.virtual_address, SIP_PORT),
            numbers=numbers_of(self.tenants),
            carrier=CarrierPlace(
                host=place.trunk_host,
                sip_port=place.trunk_port,
                rtp_first=RTP_FIRST,
                rtp_last=RTP_LAST,
                directory=self.layout.run / "carrier",
                humans_from=tuple(node.address for node in place.nodes),
            ),
            processes=NodeProcesses(asterisk=None, inference=None, calls=()),
        )

    @property
    def doors(self) -> Sequence[tuple[str, int]]:
        return [(self.inventory.virtual_address, SIP_PORT)]

    async def possible(self) -> frozenset[DrillKind]:
        shared = await asyncio.gather(*(node.machine.shell(cuts.SHARES_DISK) for node in self.inventory.nodes))
        no_disk = {DrillKind.DISK_FULL} if any(said.strip() for said in shared) else set()
        return frozenset(DrillKind) - no_disk - (set() if self.inventory.hub else {DrillKind.HUB})

    async def health(self) -> tuple[NodeHealth, ...]:
        return tuple(await asyncio.gather(*(self._health(node.machine) for node in self.inventory.nodes)))

    async def hub_troubles(self) -> Sequence[str]:
        if self.inventory.hub is None:
            return ()
        try:
            return await _dead(self.inventory.hub.machine, HUB_UNITS)
        except DrillHandError as error:
            return (f"it does not answer ({error})",)

    async def running_calls(self, node: str) -> tuple[RunningCall, ...]:
        return tuple(
            RunningCall(call_id=call["call_id"], worker=call["worker"], taken_at=_time(call["taken_at"]))
            for call in await self._ask(self._machine(node), "calls")
        )

    async def turns(self, node: str) -> frozenset[Turn]:
        found = await self._ask(self._machine(node), "turns")
        return frozenset((tenant, call, seq) for tenant, call, seq in found)

    async def held(self, node: str) -> Holdings:
        return holdings_of(await self._ask(self._machine(node), "held", script=held_on_node, within_s=HELD_WITHIN_S))

    async def chains(self) -> tuple[Chain, ...]:
        places = [(node.machine, "node") for node in self.inventory.nodes]
        places += [(self.inventory.hub.machine, "hub")] if self.inventory.hub else []
        found = await asyncio.gather(*(self._chains(machine, what) for machine, what in places))
        return tuple(chain for chains in found for chain in chains)

    async def address_holder(self) -> str | None:
        command = ["ip", "-oneline", "address", "show", "to", self.inventory.virtual_address]
        answers = await asyncio.gather(
            *(node.machine.run(command, within_s=LOOK_WITHIN_S) for node in self.inventory.nodes),
            return_exceptions=True,
        )
        holders = [
            name for name, said in zip(self.nodes, answers, strict=True) if isinstance(said, str) and said.strip()
        ]
        return holders[0] if len(holders) == 1 else None

    async def strike(self, blow: Blow) -> Struck:
        match blow.kind:
            case DrillKind.WORKER:
                return await self._kill_worker(blow)
            case DrillKind.NODE:
                at = await self.power.cut(self._machine(blow.node), blow.ends_after_s)
                return Struck(at=at, what=f"the power of {blow.node}")
            case DrillKind.HUB:
                return await self._run(self._hub().machine, cuts.hub_off(blow.ends_after_s), "the hub")
            case _:
                script, what = self._script(blow)
                return await self._run(self._machine(blow.node), script, what)

    async def undo(self, blow: Blow) -> None:
        match blow.kind:
            case DrillKind.NODE:
                await self.power.restore(self._machine(blow.node))
            case DrillKind.HUB:
                await self._hub().machine.shell(cuts.put_back(cuts.START_HUB))
            case DrillKind.PARTITION:
                await self._machine(blow.node).shell(cuts.put_back(cuts.HEAL))
            case DrillKind.DISK_FULL:
                await self._machine(blow.node).shell(cuts.put_back(cuts.EMPTY))
            case _:
                pass

    def _script(self, blow: Blow) -> tuple[str, str]:
        match blow.kind:
            case DrillKind.INFERENCE:
                return cuts.kill("borough-inference.service"), f"the inference of {blow.node}"
            case DrillKind.ASTERISK:
                return cuts.kill("borough-asterisk.service"), f"the Asterisk of {blow.node}"
            case DrillKind.FRONT_DOOR:
                return cuts.kill("kamailio.service"), f"the front door of {blow.node}"
            case DrillKind.PARTITION:
                shape = blow.shape or PartitionShape.ALONE
                return cuts.cut(shape, self._peers(blow.node), blow.ends_after_s), f"{blow.node} is cut off ({shape})"
            case DrillKind.DISK_FULL:
                return cuts.fill(blow.ends_after_s), f"the disk of {blow.node}"
            case _:
                raise DrillImpossibleError(f"{blow.kind} cannot be run on machines")

    async def _kill_worker(self, blow: Blow) -> Struck:
        killed = await self._ask(self._machine(blow.node), "kill-worker", blow.call_id)
        if killed["worker"] is None:
            raise DrillHandError(f"{blow.node} has the call {blow.call_id} no longer")
        return Struck(
            at=_time(killed["at"]),
            what=f"worker {killed['worker']} of {blow.node}",
            call_ids=tuple(killed["call_ids"]),
        )

    async def _run(self, machine: SshMachine, script: str, what: str) -> Struck:
        """A script prints when it struck."""
        said = await machine.shell(script, within_s=STRIKE_WITHIN_S)
        return Struck(at=_time(float(said.split()[0])), what=what)

    async def _health(self, machine: SshMachine) -> NodeHealth:
        try:
            dead = await _dead(machine, (*UNITS, *FRONT_DOOR))
            figures = await self._ask(machine, "health")
        except DrillHandError as error:
            return NodeHealth(node=machine.name, troubles=(f"it does not answer ({error})",))
        return NodeHealth(
            node=machine.name,
            troubles=(*figures["troubles"], *dead),
            running_calls=figures["running_calls"],
            capacity=figures["capacity"],
            workers=figures["workers"],
        )

    async def _chains(self, machine: SshMachine, what: str) -> list[Chain]:
        try:
            said = await self._ask(machine, what, script=audit_on_node, within_s=AUDIT_WITHIN_S)
        except DrillHandError as error:
            return [Chain(place=machine.name, name="", verdict="not asked", detail=str(error), was_asked=False)]
        return [Chain(place=machine.name, **one) for one in said]

    async def _ask(
        self,
        machine: SshMachine,
        command: str,
        *words: str,
        script: ModuleType = on_node,
        within_s: float = LOOK_WITHIN_S,
    ) -> Any:
        """Run a script of ours there."""
        source = await asyncio.to_thread(Path(str(script.__file__)).read_bytes)
        said = await machine.run([PYTHON, "-I", "-", command, SETTINGS, *words], given=source, within_s=within_s)
        try:
            return json.loads(said)
        except ValueError as error:
            raise DrillHandError(f"{machine.name}: {command} answered {said[:200]!r}") from error

    def _peers(self, node: str) -> list[str]:
        others = [one.address for one in self.inventory.nodes if one.machine.name != node]
        hub = [self.inventory.hub.address] if self.inventory.hub else []
        return [*others, *hub, self.inventory.virtual_address]

    def _machine(self, node: str) -> SshMachine:
        return next(one.machine for one in self.inventory.nodes if one.machine.name == node)

    def _hub(self) -> InventoryNode:
        if self.inventory.hub is None:
            raise DrillImpossibleError("the inventory names no hub")
        return self.inventory.hub


async def _dead(machine: SshMachine, units: Sequence[str]) -> list[str]:
    """Which units do not run, and what they do instead. Raises DrillHandError."""
    said = await machine.run(["sh", "-c", f"systemctl is-active {' '.join(units)} || true"], within_s=LOOK_WITHIN_S)
    states = said.split()
    if len(states) != len(units):
        raise DrillHandError(f"{machine.name}: systemctl is-active answered {said[:200]!r}")
    return [f"{unit} is {state}" for unit, state in zip(units, states, strict=True) if state != "active"]


def _time(epoch_s: float) -> dt.datetime:
    return dt.datetime.fromtimestamp(epoch_s, dt.UTC)
