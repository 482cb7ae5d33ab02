"""Starts a node and a carrier Asterisk for tests: real SIP, RTP, ARI and media sockets on loopback."""

import socket
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

from provisioning.asterisk.image import ensure_image, missing_requirement
from provisioning.asterisk.instance import AsteriskInstance
from provisioning.asterisk.settings import (
    AsteriskSettings,
    CarrierDialplan,
    NodeDialplan,
    PortRange,
    TrunkPeer,
)

HOST = "127.0.0.1"


@dataclass(frozen=True, slots=True, kw_only=True)
class AsteriskPair:
    """A node, and the carrier that calls it."""

    node: AsteriskInstance
    carrier: AsteriskInstance

    def node_number(self, number: str) -> str:
        """Endpoint for the carrier to dial a number of the node."""
        return f"PJSIP/node/sip:{number}@{HOST}:{self.node.settings.sip_port}"

    def human_uri(self, number: str) -> str:
        """SIP URI for the node to dial a number of the carrier."""
        return f"sip:{number}@{HOST}:{self.carrier.settings.sip_port}"


def require_asterisk() -> Path:
    """Return the image's root, or skip the test and say why."""
    reason = missing_requirement()
    if reason is not None:
        pytest.skip(f"no Asterisk here: {reason}")
    return ensure_image()


def free_ports(kind: socket.SocketKind, count: int) -> list[int]:
    """Ports that were free a moment ago."""
    opened = [socket.socket(socket.AF_INET, kind) for _ in range(count)]
    try:
        for each in opened:
            each.bind((HOST, 0))
        return [each.getsockname()[1] for each in opened]
    finally:
        for each in opened:
            each.close()


def pair_settings(
    directory: Path,
    *,
    stasis_apps: tuple[str, ...],
    codecs: tuple[str, ...] = ("ulaw", "alaw"),
    rtp_timeout_s: int = 30,
) -> tuple[AsteriskSettings, AsteriskSettings]:
    """Settings of a node and a carrier that know each other."""
    node_sip, carrier_sip = free_ports(socket.SOCK_DGRAM, 2)
    node_http, carrier_http = free_ports(socket.SOCK_STREAM, 2)
    node = AsteriskSettings(
        name="node",
        directory=directory / "node",
        dialplan=NodeDialplan(stasis_apps=stasis_apps),
        sip_port=node_sip,
        http_port=node_http,
        # Below the kernel's ephemeral range (32768-60999), where the other ports come from.
        rtp_ports=PortRange(first=20000, last=25999),
        peers=(TrunkPeer(name="trunk", host=HOST, port=carrier_sip),),
        codecs=codecs,
        rtp_timeout_s=rtp_timeout_s,
    )
    carrier = AsteriskSettings(
        name="carrier",
        directory=directory / "carrier",
        dialplan=CarrierDialplan(),
        sip_port=carrier_sip,
        http_port=carrier_http,
        rtp_ports=PortRange(first=26000, last=31999),
        peers=(TrunkPeer(name="node", host=HOST, port=node_sip),),
        codecs=codecs,
    )
    return node, carrier


@asynccontextmanager
async def running_pair(directory: Path, *, stasis_apps: tuple[str, ...]) -> AsyncIterator[AsteriskPair]:
    """Run both; half a second each."""
    root = require_asterisk()
    node, carrier = pair_settings(directory, stasis_apps=stasis_apps)
    async with AsyncExitStack() as stack:
        yield AsteriskPair(
            node=await stack.enter_async_context(AsteriskInstance(root, node)),
            carrier=await stack.enter_async_context(AsteriskInstance(root, carrier)),
        )
