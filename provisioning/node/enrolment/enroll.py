"""Enrolment: the first identity of a machine, all of it or nothing."""

import os
from dataclasses import dataclass
from importlib.metadata import version

from contract import enrolment_pb2 as pb
from provisioning.node.description import NodeDescription
from provisioning.node.enrolment.hub import enrolment_hub
from provisioning.node.enrolment.pinning import pinned_authority
from provisioning.node.enrolment.requests import new_keys, pairs_of, request_of
from provisioning.node.enrolment.token import Token
from provisioning.node.errors import EnrolmentError
from provisioning.node.identity_folder import IdentityFolder, Pair, Trust
from provisioning.node.roster import parse_roster, topology_of


@dataclass(frozen=True, slots=True, kw_only=True)
class HubAddress:
    """Where nodes enrol."""

    host: str
    port: int

    def __str__(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


async def enroll(node: NodeDescription, folder: IdentityFolder, hub: HubAddress, token: Token) -> list[Pair]:
    """Make keys, have them certified, and put the whole identity in place. Raises EnrolmentError, NodeIdentityError."""
    authority = await pinned_authority(hub.host, hub.port, token)
    keys = new_keys()
    request = pb.EnrollRequest(
        token=token.text,
        region=node.region,
        node=node.name,
        address=node.address,
        requests=[
            pb.CertificateRequest(role=role, csr_der=request_of(node.name, role, key)) for role, key in keys.items()
        ],
        facts=_facts(),
    )
    async with enrolment_hub(str(hub), authority) as connection:
        answer, told_authority, signing_public = await connection.enroll(request)
    if told_authority.strip() != authority.strip():
        raise EnrolmentError("the hub names another authority than it shows; nothing was changed")
    pairs = pairs_of(node.region, node.name, keys, answer.answers, authority)
    # What cannot be rendered from later must not be taken now.
    topology_of(node, parse_roster(answer.roster, node.region))
    trust = Trust(
        authority=authority,
        signing_public=signing_public,
        roster=answer.roster,
        roster_version=answer.bundle_version,
    )
    folder.install(pairs, trust)
    return pairs


def _facts() -> pb.NodeFacts:
    pages, page_bytes = os.sysconf("SC_PHYS_PAGES"), os.sysconf("SC_PAGE_SIZE")
    return pb.NodeFacts(release=version("borough"), cpus=os.cpu_count() or 0, memory_bytes=pages * page_bytes)
