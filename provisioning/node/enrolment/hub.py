"""The hub's enrolment API (contract/enrolment.proto) as a node calls it."""

import contextlib
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass

import grpc
from google.protobuf import json_format

from contract import enrolment_pb2 as pb
from contract.downlink_pb2 import Roster
from contract.enrolment_pb2_grpc import EnrolmentStub
from provisioning.identity.names import ServiceRole
from provisioning.node.enrolment.requests import Answer
from provisioning.node.errors import EnrolmentError, EnrolmentRefusedError
from provisioning.node.identity_folder import IdentityFolder

WITHIN_S = 60.0


@dataclass(frozen=True, slots=True, kw_only=True)
class HubAnswer:
    """Certificates, and who belongs to the region now: JSON, and the first bundle that says so."""

    answers: Sequence[Answer]
    roster: str
    bundle_version: int


@dataclass(frozen=True, slots=True)
class EnrolmentHub:
    """One connection. Every method raises EnrolmentError."""

    stub: EnrolmentStub
    address: str

    async def enroll(self, request: pb.EnrollRequest) -> tuple[HubAnswer, bytes, bytes]:
        """The certificates, and PEM of the authority and of the key that signs bundles."""
        try:
            reply = await self.stub.Enroll(request, timeout=WITHIN_S)
        except grpc.aio.AioRpcError as error:
            raise _refusal(self.address, error) from error
        answer = HubAnswer(
            answers=_answers(reply.certificates),
            roster=roster_json(reply.roster),
            bundle_version=reply.bundle_version,
        )
        return answer, reply.authority_pem, reply.signing_public_pem

    async def renew(self, requests: Sequence[pb.CertificateRequest]) -> HubAnswer:
        """Staged certificates."""
        try:
            reply = await self.stub.Renew(pb.RenewRequest(requests=requests), timeout=WITHIN_S)
        except grpc.aio.AioRpcError as error:
            raise _refusal(self.address, error) from error
        return HubAnswer(
            answers=_answers(reply.certificates),
            roster=roster_json(reply.roster),
            bundle_version=reply.bundle_version,
        )

    async def members(self) -> HubAnswer:
        """Who belongs to the region now."""
        try:
            reply = await self.stub.Members(pb.MembersRequest(), timeout=WITHIN_S)
        except grpc.aio.AioRpcError as error:
            raise _refusal(self.address, error) from error
        return HubAnswer(answers=(), roster=roster_json(reply.roster), bundle_version=reply.bundle_version)

    async def confirm(self, roles: Sequence[str]) -> HubAnswer:
        """The node runs on its new certificates."""
        try:
            reply = await self.stub.Confirm(pb.ConfirmRequest(roles=roles), timeout=WITHIN_S)
        except grpc.aio.AioRpcError as error:
            raise _refusal(self.address, error) from error
        return HubAnswer(answers=(), roster=roster_json(reply.roster), bundle_version=reply.bundle_version)


@contextlib.asynccontextmanager
async def enrolment_hub(
    address: str, authority: bytes, identity: IdentityFolder | None = None
) -> AsyncIterator[EnrolmentHub]:
    """Connect with `authority` as the only root; as this node's agent if its identity is given."""
    pair: dict[str, bytes] = {}
    if identity is not None:
        files = identity.current(ServiceRole.AGENT)
        pair = {"private_key": files.key.read_bytes(), "certificate_chain": files.certificate.read_bytes()}
    credentials = grpc.ssl_channel_credentials(root_certificates=authority, **pair)
    async with grpc.aio.secure_channel(address, credentials) as channel:
        yield EnrolmentHub(EnrolmentStub(channel), address)


def roster_json(roster: Roster) -> str:
    """As the agent writes it beside a bundle."""
    return str(json_format.MessageToJson(roster, preserving_proto_field_name=True))


def _answers(certificates: Sequence[pb.SignedCertificate]) -> list[Answer]:
    return [
        Answer(role=made.role, generation=made.generation, certificate=made.certificate_pem) for made in certificates
    ]


def _refusal(address: str, error: grpc.aio.AioRpcError) -> EnrolmentError:
    metadata = dict(error.trailing_metadata() or ())
    code = metadata.get("borough-code")
    if code is not None:
        return EnrolmentRefusedError(
            str(code), f"the hub refuses: {error.details()}", str(metadata.get("borough-hint", ""))
        )
    if error.code() is grpc.StatusCode.UNIMPLEMENTED:
        return EnrolmentError(
            f"the hub at {address} is of an older release than this node",
            hint="Upgrade the hub first: playbook hub.yml.",
        )
    return EnrolmentError(
        f"{address} cannot be reached: {error.details()}",
        hint="Does the hub's certificate name this address, and is its clock right? `borough node init-hub --address`.",
    )
