"""Of inference for siblings: whether theirs would answer this node's call workers, and this node's would answer theirs.

Callers do not depend on it while the node's own inference serves, and a region that is made or upgraded has siblings
that do not answer yet: what is missing is a warning.
"""

import asyncio
from dataclasses import dataclass
from pathlib import Path

import grpc

from contract import inference_pb2 as pb
from contract.inference_pb2_grpc import InferenceStub
from contract.names import inference_host
from provisioning.identity.names import ServiceRole
from provisioning.node.description import NodeDescription
from provisioning.node.identity_folder import IdentityFolder
from provisioning.node.inputs import Inputs
from provisioning.node.machine import INFERENCE_PORT
from provisioning.node.roster import Member
from provisioning.node.self_test.checks import Check, CheckSkippedError, CheckWarningError

ANSWERS_WITHIN_S = 3.0
# One that drains is about to go.
_SERVING = ("active", "cordoned")
_RENEW = "`borough node renew` there brings the certificate and starts inference anew; journalctl -u borough-inference."


@dataclass(frozen=True, slots=True)
class SiblingChecks:
    """One node; `port` is where inference of every node of the region lets siblings in."""

    inputs: Inputs
    node: NodeDescription
    port: int = INFERENCE_PORT

    def all(self) -> list[Check]:
        return [Check(name="siblings", within_s=15, ask=self.siblings, advice="Is inference of a sibling stuck?")]

    async def siblings(self) -> str:
        """Each sibling's inference answers, and this node's lets siblings in."""
        members = [m for m in self.inputs.roster(self.node.region).members if m.state in _SERVING]
        others = [member for member in members if member.name != self.node.name]
        if not others:
            raise CheckSkippedError("there is no sibling")
        credentials = self._credentials()
        told = await asyncio.gather(*(self._ask(member, credentials) for member in members))
        problems = [problem for problem in told if problem is not None]
        if problems:
            raise CheckWarningError("; ".join(text for text, _ in problems), problems[0][1])
        return f"{len(others)} siblings would answer for this node's inference, and it for theirs"

    def _credentials(self) -> grpc.ChannelCredentials:
        folder: IdentityFolder = self.inputs.identity()
        files = folder.current(ServiceRole.CALLS)
        try:
            return grpc.ssl_channel_credentials(*map(Path.read_bytes, (folder.authority, files.key, files.certificate)))
        except OSError as error:
            raise CheckWarningError(
                f"this node cannot ask siblings: {error.filename}: {error.strerror}", "borough node renew"
            ) from error

    async def _ask(self, member: Member, credentials: grpc.ChannelCredentials) -> tuple[str, str] | None:
        """What is wrong and what to do; None: it answers."""
        identity = member.identities.get(ServiceRole.INFERENCE)
        if identity is None or not identity.uris:
            return f"{member.name} has no certificate for it", _RENEW
        address = f"[{member.address}]" if ":" in member.address else member.address
        options = (
            ("grpc.ssl_target_name_override", inference_host(self.node.region, member.name)),
            ("grpc.use_local_subchannel_pool", 1),
            ("grpc.enable_http_proxy", 0),
        )
        async with grpc.aio.secure_channel(f"{address}:{self.port}", credentials, options=options) as channel:
            try:
                async with asyncio.timeout(ANSWERS_WITHIN_S):
                    await channel.channel_ready()
                # Nobody is a sibling of his own: this node's would refuse, and count it.
                if member.name != self.node.name:
                    await InferenceStub(channel).Health(pb.HealthRequest(), timeout=ANSWERS_WITHIN_S)
            except (TimeoutError, grpc.aio.AioRpcError) as error:
                return self._judged(member, error)
        return None

    def _judged(self, member: Member, error: Exception) -> tuple[str, str]:
        if isinstance(error, grpc.aio.AioRpcError) and error.code() is grpc.StatusCode.PERMISSION_DENIED:
            advice = "It passes with its next bundle: is its agent connected (`borough fleet status`)?"
            return f"{member.name} does not know this node's certificate yet", advice
        if member.name == self.node.name:
            return "this node's inference does not serve siblings", _RENEW.replace(" there", "")
        advice = f"Is it up, of this release, {self.port}/tcp open to this node? {_RENEW}"
        return f"{member.name} does not answer at {member.address}:{self.port}", advice
