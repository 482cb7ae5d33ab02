"""Reads what rendering needs on this machine: its description, and the roster (node) or the authority's index (hub)."""

from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from provisioning.identity.store import IdentityStore
from provisioning.node.description import HubDescription, NodeDescription, read_description
from provisioning.node.errors import NodeDescriptionError, RosterError
from provisioning.node.identity_folder import ROSTER, ROSTER_VERSION, IdentityFolder
from provisioning.node.machine import CURRENT_BUNDLE, DESCRIPTION, IDENTITY, IDENTITY_STORE, Machine
from provisioning.node.rendering import RenderedFile, hub_files, node_files
from provisioning.node.roster import Roster, parse_roster


@dataclass(frozen=True, slots=True)
class Inputs:
    """One machine."""

    machine: Machine

    def description(self) -> NodeDescription | HubDescription:
        """Raises NodeDescriptionError."""
        return read_description(self.machine.at(DESCRIPTION))

    def node(self) -> NodeDescription:
        """Raises NodeDescriptionError, also on a hub."""
        found = self.description()
        if isinstance(found, HubDescription):
            raise NodeDescriptionError("this machine is the hub; this is a command for nodes", hint="Run it on a node.")
        return found

    def files(self, now: datetime) -> list[RenderedFile]:
        """All that is to be rendered. Raises NodeDescriptionError, RosterError, TopologyError, IdentityError."""
        found = self.description()
        if isinstance(found, HubDescription):
            return hub_files(found, self.store().entries(), now)
        return node_files(found, self.roster(found.region))

    def identity(self) -> IdentityFolder:
        """The certificates of this machine."""
        return IdentityFolder(self.machine.at(IDENTITY))

    def store(self) -> IdentityStore:
        """The authority's folder, on the hub."""
        return IdentityStore(self.machine.at(IDENTITY_STORE))

    def roster(self, region: str) -> Roster:
        """The newer of two: what came with the certificates, and what the running bundle has. Raises RosterError."""
        enrolled, bundled = self.machine.at(IDENTITY) / ROSTER, self.machine.at(CURRENT_BUNDLE) / ROSTER
        # A roster of a bundle that is older than the certificates may lack this very node.
        if bundled.exists() and self.bundle_version() >= self.roster_version():
            return parse_roster(_read(bundled), region)
        return parse_roster(_read(enrolled), region)

    def bundle_version(self) -> int:
        """The bundle that this node runs; 0 without any."""
        try:
            name = self.machine.at(CURRENT_BUNDLE).readlink().name
        except OSError:
            return 0
        return int(name) if name.isdecimal() else 0

    def roster_version(self) -> int:
        """The first bundle with the roster that lies beside the certificates; 0 without one. Raises RosterError."""
        try:
            return int((self.machine.at(IDENTITY) / ROSTER_VERSION).read_text(encoding="ascii"))
        except FileNotFoundError:
            return 0
        except (OSError, ValueError) as error:
            raise RosterError(f"{self.machine.at(IDENTITY) / ROSTER_VERSION}: {error}") from error


def _read(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except FileNotFoundError:
        raise RosterError(f"{path} does not exist: this node is not enrolled") from None
    except (OSError, UnicodeDecodeError) as error:
        raise RosterError(f"{path}: {error}") from error
