"""A hub that enrols, with the real authority beside it, and machines that want to be nodes."""

import asyncio
import contextlib
import json
import sys
from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path

import grpc
import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePrivateKey
from nats.aio.client import Client
from nats.js.errors import NotFoundError

from contract import enrolment_pb2 as pb
from contract.downlink_pb2 import Bundle, BundleManifest, BundleMessage, Roster
from contract.enrolment_pb2_grpc import EnrolmentStub
from contract.subjects import bundle, config_stream, health
from contract.uplink_pb2 import Capacity, Health
from edge.sync.verification import unpacked
from provisioning.identity.certificates import new_key, new_request, private_pem
from provisioning.identity.names import NODE_ROLES
from provisioning.identity.store import Entry, IdentityStore
from tests.controlplane import estate_files
from tests.controlplane.certificates import Authority
from tests.controlplane.hub_process import Hub, free_port
from tests.controlplane.nats_server import NatsServer, connected

REGION, OTHER_REGION = "in-south", "eu-central"
WITHIN_S = 20.0
ROLES = tuple(str(role) for role in NODE_ROLES)


@dataclass(slots=True, kw_only=True)
class EnrollingHub:
    """The hub's process, its authority, and a connection to its NATS."""

    hub: Hub
    store: IdentityStore
    nats: Client
    port: int
    renewal_port: int
    socket: Path
    _authority: asyncio.subprocess.Process | None = None

    async def start_authority(self) -> None:
        """The service of provisioning, as systemd would start it."""
        config = self.hub.directory / "authority.toml"
        config.write_text(
            f'[authority]\nstore = "{self.store.root}"\nsocket = "{self.socket}"\n[metrics]\nport = {free_port()}\n'
        )
        with (self.hub.directory / "authority.log").open("ab") as log:
            self._authority = await asyncio.create_subprocess_exec(
                *(sys.executable, "-m", "provisioning.identity.authority_service", "--config", str(config)),
                stdout=log,
                stderr=log,
            )
        async with asyncio.timeout(WITHIN_S):
            while not self.socket.exists():
                await asyncio.sleep(0.05)

    async def stop_authority(self) -> None:
        if self._authority is not None and self._authority.returncode is None:
            self._authority.terminate()
            await self._authority.wait()
            self.socket.unlink(missing_ok=True)

    async def token(self, *options: str, region: str = REGION) -> str:
        """As an admin makes one."""
        result = await self.hub.run("token", "create", region, *options, "--json", role="admin", person="root")
        assert result.exit_code == 0, result.output
        return str(json.loads(result.stdout)["token"])

    async def fleet(self, *arguments: str) -> tuple[int, dict[str, object]]:
        """Exit code and report of `borough fleet ... --json`."""
        result = await self.hub.run("fleet", *arguments, "--json", role="admin", person="root")
        text = result.stdout if result.exit_code in {0, 3} else result.stderr
        return result.exit_code, dict(json.loads(text))

    async def node_status(self, name: str) -> Mapping[str, object] | None:
        _, status = await self.fleet("status", "--region", REGION)
        nodes = [node for region in status["regions"] for node in region["nodes"]]  # type: ignore[attr-defined]
        return next((node for node in nodes if node["node"] == name), None)

    async def audited(self, limit: int = 200) -> list[tuple[str, str, str]]:
        """Action, object and outcome, newest first."""
        result = await self.hub.run(
            "admin", "audit", "list", "--limit", str(limit), "--json", role="admin", person="root"
        )
        entries = json.loads(result.stdout)["entries"]
        return [(entry["action"], entry["object"], entry["outcome"]) for entry in entries]

    async def roster_in_stream(self, region: str = REGION, at_least: int = 1) -> tuple[int, Roster]:
        """Version and roster of the newest bundle that NATS has, once it has this version."""
        async with asyncio.timeout(WITHIN_S):
            while True:
                with contextlib.suppress(NotFoundError):
                    version, roster = await self._newest_in_stream(region)
                    if version >= at_least:
                        return version, roster
                await asyncio.sleep(0.05)

    async def message_in_stream(self, region: str = REGION) -> bytes:
        """The newest bundle's message, as a node gets it."""
        return (await self.nats.jetstream().get_last_msg(config_stream(region), bundle(region))).data or b""

    async def _newest_in_stream(self, region: str) -> tuple[int, Roster]:
        signed = BundleMessage.FromString(await self.message_in_stream(region))
        manifest = BundleManifest.FromString(signed.manifest.body)
        read = Bundle.FromString(unpacked(signed.content, limit_bytes=1 << 24))
        return manifest.version, read.roster

    async def tell_health(self, node: str, *, calls: int, is_cordoned: bool, bundle_version: int) -> None:
        """As the agent of a node does every two seconds."""
        said = Health(
            region=REGION,
            node=node,
            at_ms=int(datetime.now(UTC).timestamp() * 1000),
            release="1.0",
            bundle_version=bundle_version,
            capacity=Capacity(slots=4, slots_used_peak=calls),
            is_cordoned=is_cordoned,
        )
        await self.nats.jetstream().publish(health(REGION, node), said.SerializeToString())

    def entries(self, node: str) -> list[Entry]:
        """All certificates that the authority ever made for a node."""
        return [entry for entry in self.store.entries() if entry.key.startswith(f"{REGION}/{node}/")]


@contextlib.asynccontextmanager
async def enrolling_hub(
    directory: Path, *, host: str = "127.0.0.1", failures: int = 1000
) -> AsyncIterator[EnrollingHub]:
    """A hub with two regions that is active and enrols."""
    store = IdentityStore(directory / "store")
    store.init(datetime.now(UTC))
    ports, socket = (free_port(), free_port()), directory / "authority.sock"
    section = (
        f'[enrolment]\nauthority_socket = "{socket}"\naddress = "10.0.0.1"\nhost = "{host}"\nport = {ports[0]}\n'
        f"renewal_port = {ports[1]}\nfailures_allowed = {failures}\n"
    )
    async with contextlib.AsyncExitStack() as stack:
        server = NatsServer(directory / "nats")
        await server.start()
        stack.push_async_callback(server.stop)
        nats = await stack.enter_async_context(connected(server))
        authority = Authority(directory / "identity", authority=store.authority())
        hub = Hub(directory, server.url, authority=authority, sections=section)
        stack.push_async_callback(hub.stop)
        running = EnrollingHub(hub=hub, store=store, nats=nats, port=ports[0], renewal_port=ports[1], socket=socket)
        await running.start_authority()
        stack.push_async_callback(running.stop_authority)
        await hub.start("hub-1")
        await hub.until_active("hub-1")
        files = directory / "regions.yaml"
        files.write_text(estate_files.REGIONS)
        applied = await hub.run("apply", "-f", str(files))
        assert applied.exit_code == 0, applied.output
        yield running


@dataclass(slots=True, kw_only=True)
class Machine:
    """A machine with keys of its own."""

    hub: EnrollingHub
    name: str = "south-1"
    address: str = "10.1.0.1"
    host: str = "127.0.0.1"
    keys: dict[str, EllipticCurvePrivateKey] = field(default_factory=dict)
    certificates: dict[str, pb.SignedCertificate] = field(default_factory=dict)

    def requests(self, roles: Sequence[str] = ROLES) -> list[pb.CertificateRequest]:
        """For fresh keys."""
        self.keys = {role: new_key() for role in roles}
        return [
            pb.CertificateRequest(role=role, csr_der=new_request(key, self.name)) for role, key in self.keys.items()
        ]

    async def enroll(
        self, token: str, *, region: str = REGION, requests: Sequence[pb.CertificateRequest] | None = None
    ) -> pb.EnrollReply:
        request = pb.EnrollRequest(
            token=token,
            region=region,
            node=self.name,
            address=self.address,
            requests=self.requests() if requests is None else requests,
        )
        async with self._channel(self.hub.port) as channel:
            reply: pb.EnrollReply = await EnrolmentStub(channel).Enroll(request, timeout=WITHIN_S)
        self._keep(reply.certificates)
        return reply

    async def renew(self) -> pb.RenewReply:
        """Comes with the certificates in use; the new ones are kept under `certificates`."""
        async with self.as_node() as stub:
            reply: pb.RenewReply = await stub.Renew(pb.RenewRequest(requests=self.requests()), timeout=WITHIN_S)
        self._keep(reply.certificates)
        return reply

    async def confirm(self) -> pb.ConfirmReply:
        async with self.as_node() as stub:
            reply: pb.ConfirmReply = await stub.Confirm(pb.ConfirmRequest(), timeout=WITHIN_S)
        return reply

    @contextlib.asynccontextmanager
    async def as_node(self, role: str = "agent") -> AsyncIterator[EnrolmentStub]:
        pair = (private_pem(self.keys[role]), self.certificates[role].certificate_pem)
        async with self._channel(self.hub.renewal_port, *pair) as channel:
            yield EnrolmentStub(channel)

    def as_before(self) -> "Machine":
        """The same machine, which keeps keys and certificates that it has now."""
        return Machine(
            hub=self.hub,
            name=self.name,
            address=self.address,
            host=self.host,
            keys=dict(self.keys),
            certificates=dict(self.certificates),
        )

    def subject(self, role: str) -> x509.Certificate:
        return x509.load_pem_x509_certificate(self.certificates[role].certificate_pem)

    def _channel(self, port: int, key: bytes | None = None, certificate: bytes | None = None) -> grpc.aio.Channel:
        authority = self.hub.store.authority_file.read_bytes()
        credentials = grpc.ssl_channel_credentials(authority, key, certificate)
        options = [("grpc.ssl_target_name_override", "localhost")]
        return grpc.aio.secure_channel(f"{self.host}:{port}", credentials, options=options)

    def _keep(self, certificates: Sequence[pb.SignedCertificate]) -> None:
        self.certificates = {one.role: one for one in certificates}


@contextlib.asynccontextmanager
async def refused(code: str) -> AsyncIterator[None]:
    """The hub says no, with this code and with a hint."""
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        yield
    metadata = dict(caught.value.trailing_metadata() or ())
    assert metadata.get("borough-code") == code, f"{metadata} {caught.value.details()}"
    assert metadata.get("borough-hint")
