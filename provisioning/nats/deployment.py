"""The topology on disk: identities of every service, one rendered server each. What `borough up` and Ansible call."""

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from provisioning.identity.names import HUB_ROLES, NODE_ROLES, ServiceName, ServiceRole
from provisioning.identity.store import IdentityStore
from provisioning.nats.eviction import SystemAccess, close_links
from provisioning.nats.instance import NatsInstance
from provisioning.nats.permissions import STRICT, Border
from provisioning.nats.render import Credentials, KeyFiles, render_hub, render_node
from provisioning.nats.topology import Hub, Node, Topology


@dataclass(frozen=True, slots=True, kw_only=True)
class Deployment:
    """A topology, the identities of its services and the folder of its servers (`<root>/<node>`)."""

    topology: Topology
    identities: IdentityStore
    root: Path
    border: Border = STRICT

    def ensure_identities(self, now: datetime) -> None:
        """Issue every certificate that is missing; makes the authority if there is none.

        Raises IdentityRevokedError.
        """
        if not self.identities.authority_file.exists():
            self.identities.init(now)
        for name, address in self._services():
            addresses = tuple(dict.fromkeys((address, "127.0.0.1", "localhost")))
            self.identities.ensure(name, now, addresses=name.reached_at(addresses))

    def instance(self, server: Hub | Node) -> NatsInstance:
        """Where a server of this topology lives."""
        name = server.node if isinstance(server, Hub) else server.name
        return NatsInstance(directory=self.root / name, monitor_port=server.monitor_port)

    def servers(self) -> Iterator[Hub | Node]:
        """The hub, then every server of every region."""
        yield self.topology.hub
        for region in self.topology.regions:
            yield from region.servers

    def write(self, now: datetime) -> None:
        """Render and write every server's configuration; again after a rotation or a revocation."""
        credentials = self._credentials(now)
        for server in self.servers():
            instance = self.instance(server)
            if isinstance(server, Hub):
                text = render_hub(self.topology, credentials, instance.files, self.border)
            else:
                text = render_node(self.topology, server, credentials, instance.files, self.border)
            instance.write(text)

    async def apply(self, now: datetime) -> None:
        """After a rotation or revocation: write, reload every server that runs here, and make all links prove
        themselves anew. Raises NatsConfigError if a server does not run."""
        self.write(now)
        for server in self.servers():
            self.instance(server).reload()
        hub, store = self.topology.hub, self.identities
        system = hub.service(ServiceRole.SYSTEM)
        access = SystemAccess(
            authority=store.authority_file, certificate=store.certificate_file(system), key=store.key_file(system)
        )
        await close_links(hub, access)

    def _services(self) -> Iterator[tuple[ServiceName, str]]:
        hub = self.topology.hub
        yield from ((hub.service(role), hub.address) for role in HUB_ROLES)
        for region in self.topology.regions:
            for node in region.nodes:
                yield from ((node.service(role), node.address) for role in NODE_ROLES)

    def _credentials(self, now: datetime) -> Credentials:
        return Credentials(
            authority=self.identities.authority_file.resolve(),
            files=lambda name: KeyFiles(
                certificate=self.identities.certificate_file(name).absolute(),
                key=self.identities.key_file(name).absolute(),
            ),
            users=lambda name: [name.uri(entry.generation) for entry in self.identities.valid(name, now)],
            pins=lambda name: [entry.pin for entry in self.identities.valid(name, now)],
        )
