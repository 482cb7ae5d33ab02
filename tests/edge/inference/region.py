"""A small region: certificates of a real authority, a roster as the hub sends it, services that siblings may ask."""

import socket
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path

from google.protobuf.json_format import MessageToJson

from contract.downlink_pb2 import NODE_STATE_ACTIVE, NodeState, Roster, RosterIdentity, RosterNode
from edge.inference.client_settings import SiblingSection
from provisioning.identity.names import ServiceName, ServiceRole
from provisioning.identity.store import Entry, IdentityStore

REGION = "in-south"
HOME, SIBLING = "in-south-1", "in-south-2"
# Every node of a region uses the same port; on this machine each has an address of its own.
ADDRESSES = {HOME: "127.0.0.1", SIBLING: "127.0.0.2"}


def free_port(address: str) -> int:
    with socket.create_server((address, 0)) as server:
        return int(server.getsockname()[1])


@dataclass(slots=True)
class SmallRegion:
    """Lies in `root`; `port` is where siblings are served."""

    root: Path
    port: int
    entries: dict[tuple[str, str, str], Entry] = field(default_factory=dict)

    @property
    def store(self) -> IdentityStore:
        return IdentityStore(self.root / "identity")

    def found(self) -> None:
        self.store.init(datetime.now(UTC))
        for node in ADDRESSES:
            self.issue(REGION, node, ServiceRole.CALLS)
            self.issue(REGION, node, ServiceRole.INFERENCE)
        self.write_roster()

    def issue(self, region: str, node: str, role: ServiceRole) -> Entry:
        name = ServiceName(site=region, node=node, role=role)
        entry = self.store.issue(name, datetime.now(UTC), addresses=name.reached_at([ADDRESSES.get(node, "127.0.0.9")]))
        self.entries[region, node, role] = entry
        return entry

    def roster_path(self) -> Path:
        return self.root / "roster.json"

    def write_roster(
        self,
        *,
        state: "NodeState.ValueType" = NODE_STATE_ACTIVE,
        addresses: dict[str, str] | None = None,
        without: str = "",
    ) -> None:
        """Replace it as the node agent does; of `without` no certificate is valid."""
        roster = Roster(
            region=REGION,
            nodes=[
                RosterNode(
                    name=name,
                    address=address,
                    state=state,
                    identities=[] if name == without else self._identities(name),
                )
                for name, address in (addresses or ADDRESSES).items()
            ],
        )
        fresh = self.root / "roster.new"
        fresh.write_text(MessageToJson(roster, preserving_proto_field_name=True))
        fresh.rename(self.roster_path())

    def _identities(self, node: str) -> list[RosterIdentity]:
        calls = self.entries[REGION, node, ServiceRole.CALLS] if (REGION, node, "calls") in self.entries else None
        own = (
            [
                RosterIdentity(
                    role="calls", uris=[f"borough://{REGION}/{node}/calls/{calls.generation}"], pins=[calls.pin]
                )
            ]
            if calls
            else []
        )
        return [
            *own,
            RosterIdentity(role="inference", uris=[f"borough://{REGION}/{node}/inference/1"], pins=["0" * 64]),
        ]

    def service_section(self, node: str) -> str:
        """For inference.toml."""
        name = ServiceName(site=REGION, node=node, role=ServiceRole.INFERENCE)
        return (
            f'[siblings]\nhost = "{ADDRESSES[node]}"\nport = {self.port}\nregion = "{REGION}"\nnode = "{node}"\n'
            f'authority = "{self.store.authority_file}"\ncertificate = "{self.store.certificate_file(name)}"\n'
            f'key = "{self.store.key_file(name)}"\nroster = "{self.roster_path()}"\n'
        )

    def client_section(
        self, region: str = REGION, node: str = HOME, role: ServiceRole = ServiceRole.CALLS
    ) -> SiblingSection:
        """For a client on HOME that shows this certificate."""
        name = ServiceName(site=region, node=node, role=role)
        return SiblingSection(
            region=REGION,
            node=HOME,
            port=self.port,
            authority=self.store.authority_file,
            certificate=self.store.certificate_file(name),
            key=self.store.key_file(name),
            roster=self.roster_path(),
        )
