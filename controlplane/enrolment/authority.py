"""The authority of the hub, behind its unix socket (contract/authority.proto): signs, switches, withdraws certificates.

It alone has the key; what it says is valid is what rosters name.
"""

import contextlib
from collections.abc import AsyncIterator, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import grpc

from contract import authority_pb2 as pb
from contract.authority_pb2_grpc import AuthorityStub
from contract.names import inference_host
from controlplane.enrolment.errors import AuthorityRefusedError, AuthorityUnavailableError
from controlplane.enrolment.nodes import Certificate
from controlplane.enrolment.requests import INFERENCE, LISTENING, KeyRequest

# A signature takes milliseconds; a reload of the index may wait for another.
ANSWER_WITHIN_S = 10.0
# Towards the programs of its own machine.
OWN_ADDRESSES = ("127.0.0.1", "localhost")


@dataclass(frozen=True, slots=True, kw_only=True)
class Signed:
    """Certificates in the order of the requests, and what their owner is to trust."""

    certificates: Sequence[pb.Certificate]
    authority_pem: bytes
    signing_public_pem: bytes


class SigningAuthority:
    """Asks the authority. Every method raises AuthorityUnavailableError and AuthorityRefusedError."""

    def __init__(self, stub: AuthorityStub) -> None:
        self._stub = stub

    async def sign(self, region: str, node: str, address: str, requests: Sequence[KeyRequest]) -> Signed:
        """Certificates for a node, all or none; a first one is current at once, another staged beside it."""
        orders = [
            pb.Order(
                role=request.role,
                csr_der=request.csr_der,
                addresses=_addresses(region, node, address, request.role),
            )
            for request in requests
        ]
        with _errors():
            reply = await self._stub.Sign(
                pb.SignRequest(site=region, node=node, orders=orders), timeout=ANSWER_WITHIN_S
            )
        return Signed(
            certificates=list(reply.certificates),
            authority_pem=reply.authority_pem,
            signing_public_pem=reply.signing_public_pem,
        )

    async def switch(self, region: str, node: str, staged: Sequence[Certificate]) -> None:
        """The staged certificates are the current ones; those before are valid no more."""
        generations = [pb.Generation(role=one.role, generation=one.generation) for one in staged]
        with _errors():
            await self._stub.Switch(
                pb.SwitchRequest(site=region, node=node, staged=generations), timeout=ANSWER_WITHIN_S
            )

    async def retire_staged(self, region: str, node: str) -> None:
        """Withdraw what is staged for a node."""
        with _errors():
            await self._stub.Retire(pb.RetireRequest(site=region, node=node), timeout=ANSWER_WITHIN_S)

    async def revoke(self, region: str, node: str) -> None:
        """Shut a node out; nothing valid is no error."""
        with _errors():
            await self._stub.Revoke(pb.RevokeRequest(site=region, node=node), timeout=ANSWER_WITHIN_S)

    async def valid(self) -> list[Certificate]:
        """All that is valid, of all sites."""
        with _errors():
            reply = await self._stub.Roster(pb.RosterRequest(), timeout=ANSWER_WITHIN_S)
        return [_certificate(node, one) for node in reply.nodes for role in node.roles for one in role.certificates]


@contextlib.asynccontextmanager
async def signing_authority(socket: Path) -> AsyncIterator[SigningAuthority]:
    """A connection that is made when it is used."""
    async with grpc.aio.insecure_channel(f"unix:{socket}") as channel:
        yield SigningAuthority(AuthorityStub(channel))


def _addresses(region: str, node: str, address: str, role: str) -> list[str]:
    if role not in LISTENING:
        return []
    return [address, *OWN_ADDRESSES, *([inference_host(region, node)] if role == INFERENCE else [])]


def _certificate(node: pb.NodeIdentities, one: pb.Certificate) -> Certificate:
    return Certificate(
        region=node.site,
        node=node.node,
        role=one.role,
        generation=one.generation,
        is_staged=one.state == pb.CERTIFICATE_STATE_STAGED,
        uri=one.uri,
        serial=one.serial,
        pin=one.pin,
        not_after_ms=one.not_after_ms,
    )


@contextlib.contextmanager
def _errors() -> Iterator[None]:
    try:
        yield
    except grpc.aio.AioRpcError as error:
        told = dict(error.trailing_metadata() or ())
        code = str(told.get("borough-code", ""))
        if code or error.code() not in (grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.DEADLINE_EXCEEDED):
            raise AuthorityRefusedError(
                code, error.details() or error.code().name.lower(), str(told.get("borough-hint", ""))
            ) from error
        raise AuthorityUnavailableError(f"{error.code().name.lower()}: {error.details()}") from error
