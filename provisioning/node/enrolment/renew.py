"""Renewal: new keys and certificates before the old ones end, while calls go on.

    ask the hub        new certificates are staged: valid beside the old ones
    wait               until this node runs the bundle that tells the region of them
    put in use         services start anew on them; if one does not, back to the old ones
    confirm            as the new agent: the old ones are valid no more

Whatever moment it is interrupted in, running it again goes on from there.
"""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass

from contract import enrolment_pb2 as pb
from contract.errors import BoroughError
from provisioning.identity.names import NODE_ROLES, ServiceRole
from provisioning.node.description import NodeDescription
from provisioning.node.enrolment.enroll import HubAddress
from provisioning.node.enrolment.hub import enrolment_hub
from provisioning.node.enrolment.requests import new_keys, pairs_of, request_of
from provisioning.node.errors import EnrolmentError, NodeIdentityError
from provisioning.node.identity_folder import Held, IdentityFolder
from provisioning.node.inputs import Inputs

LOOK_EVERY_S = 0.5


@dataclass(frozen=True, slots=True, kw_only=True)
class Machinery:
    """What a renewal does to this machine: has services start anew, and settings rendered anew."""

    restart: Callable[[], Awaitable[Sequence[str]]]
    render: Callable[[], Awaitable[None]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Renewal:
    """What was done."""

    certificates: tuple[Held, ...]
    restarted: tuple[str, ...]


async def renew(node: NodeDescription, inputs: Inputs, machinery: Machinery, within_s: float) -> Renewal:
    """Raises EnrolmentError, NodeIdentityError, RenderError; the old certificates are in use then, or still valid."""
    folder = inputs.identity()
    if not folder.is_enrolled:
        raise NodeIdentityError("this node is not enrolled", hint="`borough node enroll` first.")
    hub = HubAddress(host=node.hub.address, port=node.hub.renewal_port)
    version = folder.staged_version()
    if version is None:
        folder.discard_staged()
        version = await _stage(node, folder, hub)
    await _until_known(inputs, version, within_s)
    # The node's own server has to know its new names before anybody comes with them.
    await machinery.render()
    old, staged = folder.held(), folder.staged()
    folder.point(staged)
    # Also when an earlier run got as far as this: nobody knows who was started anew then.
    restarted = await _restart(folder, old, machinery)
    async with enrolment_hub(str(hub), folder.authority.read_bytes(), folder) as connection:
        confirmed = await connection.confirm([])
    folder.save_roster(confirmed.roster, confirmed.bundle_version)
    folder.discard_old()
    await machinery.render()
    return Renewal(certificates=tuple(folder.held()), restarted=tuple(restarted))


async def _stage(node: NodeDescription, folder: IdentityFolder, hub: HubAddress) -> int:
    authority = folder.authority.read_bytes()
    keys = new_keys(_roles(folder))
    requests = [
        pb.CertificateRequest(role=role, csr_der=request_of(node.name, role, key)) for role, key in keys.items()
    ]
    async with enrolment_hub(str(hub), authority, folder) as connection:
        answer = await connection.renew(requests)
    folder.stage(pairs_of(node.region, node.name, keys, answer.answers, authority), answer.bundle_version)
    return answer.bundle_version


async def _until_known(inputs: Inputs, version: int, within_s: float) -> None:
    """Servers of siblings take the new certificates once they run this bundle; so does this node's own."""
    try:
        async with asyncio.timeout(within_s):
            while inputs.bundle_version() < version:  # noqa: ASYNC110 - another process swaps a link
                await asyncio.sleep(LOOK_EVERY_S)
    except TimeoutError:
        raise EnrolmentError(
            f"bundle {version}, which tells the region of the new certificates, has not come within {within_s:.0f} s;"
            f" this node runs bundle {inputs.bundle_version()}",
            hint="The old ones are in use. Is the link to the hub up? Run it again then: it goes on from here.",
        ) from None


async def _restart(folder: IdentityFolder, old: Sequence[Held], machinery: Machinery) -> list[str]:
    try:
        return list(await machinery.restart())
    except BoroughError:
        folder.point(old)
        await machinery.restart()
        raise


def _roles(folder: IdentityFolder) -> list[ServiceRole]:
    """Those that it has, and those that this release has more."""
    return list(dict.fromkeys([*folder.roles(), *NODE_ROLES]))
