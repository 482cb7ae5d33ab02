"""From bare machines to a region that answers calls: the playbooks an operator runs, in their order, timed."""

import asyncio
import time
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from provisioning.build_store.manifest import Manifest
from provisioning.build_store.root import ensure_debian_root
from provisioning.build_store.store import Order, build_store
from provisioning.local.layout import EXAMPLE_TENANTS, REPOSITORY, StateLayout
from provisioning.local.seeding import Seeding
from provisioning.machines.errors import MachineUnknownError
from provisioning.machines.inventory import RehearsalInventory
from provisioning.machines.plan import MachinesPlan
from provisioning.machines.plays import Player, PlayOutcome
from provisioning.machines.rehearsal import Rehearsal


@dataclass(slots=True)
class RegionRehearsal:
    """A region on machines inside this one. `seconds` says how long each step took."""

    layout: StateLayout
    # The spare is a neighbour in the same network that has no business with the region.
    plan: MachinesPlan = field(default_factory=lambda: MachinesPlan(spares=1))
    seconds: dict[str, float] = field(default_factory=dict)
    # From the first task to the last, by machine and playbook.
    machine_seconds: dict[str, dict[str, float]] = field(default_factory=dict)

    @property
    def directory(self) -> Path:
        return self.layout.root / "machines"

    @property
    def rehearsal(self) -> Rehearsal:
        return Rehearsal(self.directory)

    @property
    def inventory(self) -> Path:
        return self.directory / "inventory"

    @property
    def player(self) -> Player:
        """Runs playbooks on these machines."""
        return Player(inventory=self.inventory, log=self.directory / "plays.log")

    @property
    def seeding(self) -> Seeding:
        """An admin of these machines' hub."""
        return Seeding(context=self.inventory / "admin" / "context.toml", documents=self.directory / "documents")

    @property
    def store(self) -> Path:
        """The build store that the inventory names."""
        return self.directory / "store"

    @property
    def stands(self) -> bool:
        """Whether every machine of the plan runs, and an inventory names them."""
        try:
            machines = self.rehearsal.machines()
        except MachineUnknownError:
            return False
        names = {machine.place.name for machine in machines if machine.pid is not None}
        return self.inventory.exists() and names >= {place.name for place in self.plan.places}

    def build(self, version: str = "", repository: Path = REPOSITORY, store: Path | None = None) -> Manifest:
        """Make the build store of a checkout, signed with a key of this rehearsal. Raises BuildError."""
        with self._timed("build"):
            self.directory.mkdir(parents=True, exist_ok=True, mode=0o700)
            order = Order(
                repository=repository,
                state=self.layout.root,
                out=store or self.store,
                sign_key=self._signing_key(),
                version=version,
            )
            return build_store(order, report=lambda _: None)

    def boot(self) -> None:
        """Boot bare machines. Raises MachineStartError."""
        with self._timed("boot"):
            self.rehearsal.up(self.plan, ensure_debian_root(state_directory=self.layout.images))

    def write_inventory(self, version: str, left_out: Collection[str] = ()) -> None:
        """Say which release the machines are to run, and which nodes are no longer the region's."""
        RehearsalInventory(
            directory=self.inventory,
            plan=self.plan,
            store=self.store,
            store_key=self._signing_key().with_suffix(".pub"),
            version=version,
            ssh_key=self.rehearsal.key,
            left_out=frozenset(left_out),
        ).write()

    def provision(self) -> dict[str, PlayOutcome]:
        """Run hub.yml, seed the hub, run region.yml, wait until every node serves.

        Raises MachinePlayError or SeedError.
        """
        outcomes = {"hub": self._play("hub")}
        with self._timed("seed"):
            asyncio.run(self.seeding.seed([self.plan.region], EXAMPLE_TENANTS))
        outcomes["region"] = self._play("region")
        with self._timed("serve"):
            asyncio.run(self.seeding.until_served())
        return outcomes

    def down(self) -> None:
        """Destroy the machines; the store stays."""
        self.rehearsal.down()

    def _play(self, playbook: str) -> PlayOutcome:
        with self._timed(playbook):
            outcome = self.player.play(playbook).expect_success()
        for name, seconds in outcome.seconds.items():
            self.machine_seconds.setdefault(name, {})[playbook] = round(seconds, 1)
        return outcome

    def _signing_key(self) -> Path:
        path = self.directory / "build.key"
        if not path.exists():
            key = Ed25519PrivateKey.generate()
            path.touch(mode=0o600)
            path.write_bytes(
                key.private_bytes(
                    serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
                )
            )
            public = key.public_key().public_bytes(
                serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
            )
            path.with_suffix(".pub").write_bytes(public)
        return path

    @contextmanager
    def _timed(self, step: str) -> Iterator[None]:
        began = time.monotonic()
        yield
        self.seconds[step] = round(time.monotonic() - began, 1)
