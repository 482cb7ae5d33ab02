"""The Enrolment service: messages in, calls of `Enrolment`, messages out. Its door judges and audits (`door`)."""

from collections.abc import Iterable

import structlog

from contract import authority_pb2
from contract import enrolment_pb2 as pb
from contract.enrolment_pb2_grpc import EnrolmentServicer
from controlplane.enrolment.door import DoorContext, agent_of
from controlplane.enrolment.enrolling import Answer, Enrolling, Enrolment
from controlplane.enrolment.requests import KeyRequest

log = structlog.get_logger(__name__)

RELEASE_CHARACTERS = 40


class EnrolmentService(EnrolmentServicer):
    """What nodes ask for. A node is who its certificate says; only a token stands for one that has none."""

    def __init__(self, enrolment: Enrolment) -> None:
        self._enrolment = enrolment

    async def Enroll(self, request: pb.EnrollRequest, context: DoorContext) -> pb.EnrollReply:  # noqa: N802
        wish = Enrolling(
            token=request.token,
            region=request.region,
            node=request.node,
            address=request.address,
            requests=_requests(request.requests),
            source=context.source,
        )
        answer = await self._enrolment.enroll(wish)
        facts = request.facts
        log.info(
            "node_facts",
            region=wish.region,
            node=wish.node,
            release=facts.release[:RELEASE_CHARACTERS],
            cpus=facts.cpus,
            memory_bytes=facts.memory_bytes,
        )
        signed = answer.signed
        assert signed is not None, "who enrols gets certificates"
        return pb.EnrollReply(
            certificates=_certificates(answer),
            authority_pem=signed.authority_pem,
            signing_public_pem=signed.signing_public_pem,
            roster=answer.roster,
            bundle_version=answer.bundle_version,
        )

    async def Renew(self, request: pb.RenewRequest, context: DoorContext) -> pb.RenewReply:  # noqa: N802
        answer = await self._enrolment.renew(agent_of(context), _requests(request.requests), context.source)
        return pb.RenewReply(
            certificates=_certificates(answer), roster=answer.roster, bundle_version=answer.bundle_version
        )

    async def Confirm(self, request: pb.ConfirmRequest, context: DoorContext) -> pb.ConfirmReply:  # noqa: N802
        answer = await self._enrolment.confirm(agent_of(context), request.roles, context.source)
        return pb.ConfirmReply(roster=answer.roster, bundle_version=answer.bundle_version)

    async def Members(self, request: pb.MembersRequest, context: DoorContext) -> pb.MembersReply:  # noqa: N802
        del request
        answer = await self._enrolment.members(agent_of(context))
        return pb.MembersReply(roster=answer.roster, bundle_version=answer.bundle_version)


def _requests(requests: Iterable[pb.CertificateRequest]) -> list[KeyRequest]:
    return [KeyRequest(role=request.role, csr_der=request.csr_der) for request in requests]


def _certificates(answer: Answer) -> list[pb.SignedCertificate]:
    return [_certificate(one) for one in answer.signed.certificates] if answer.signed is not None else []


def _certificate(one: authority_pb2.Certificate) -> pb.SignedCertificate:
    return pb.SignedCertificate(
        role=one.role,
        certificate_pem=one.certificate_pem,
        generation=one.generation,
        uri=one.uri,
        pin=one.pin,
        not_after_ms=one.not_after_ms,
    )
