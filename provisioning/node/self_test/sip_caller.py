"""A caller that only knocks: sends an INVITE over UDP as the front door does and waits for the final answer.

The text is pure; RFC 3261 sections are named where they decide. It is never answered with audio: who does answer is
hung up on at once.
"""

import asyncio
import base64
import re
import secrets
from dataclasses import dataclass
from typing import cast

from provisioning.asterisk.settings import TRUNK_HEADER

# T1 (17.1.1.1): the first retransmission of a request over UDP.
T1_S = 0.5
_STATUS = re.compile(rb"SIP/2\.0 (\d{3})")
_TO = re.compile(rb"^(?:To|t)\s*:\s*(.+)$", re.MULTILINE | re.IGNORECASE)


@dataclass(frozen=True, slots=True, kw_only=True)
class Knock:
    """One call that is tried: from this machine to `number` at its Asterisk, as if `trunk` had sent it."""

    address: str
    asterisk_port: int
    local_port: int
    number: str
    trunk: str
    srtp: bool
    token: str

    @property
    def target(self) -> str:
        return f"sip:{self.number}@{self.address}:{self.asterisk_port}"

    def request(self, method: str, to: str = "", body: str = "", *, is_own: bool = False) -> bytes:
        """INVITE, ACK, CANCEL or BYE of this call; `to` is what the answer said, with its tag.

        `is_own`: a transaction of its own, as the ACK of an answer is (13.2.2.4); that of a refusal belongs to the
        INVITE (17.1.1.3).
        """
        sequence = {"BYE": 2}.get(method, 1)
        branch = f"{self.token}{method}" if is_own else self.token
        lines = [
            f"{method} {self.target} SIP/2.0",
            f"Via: SIP/2.0/UDP {self.address}:{self.local_port};branch=z9hG4bK{branch};rport",
            "Max-Forwards: 5",
            f"From: <sip:self-test@{self.address}>;tag={self.token}",
            f"To: {to or f'<{self.target}>'}",
            f"Call-ID: {self.token}@{self.address}",
            f"CSeq: {sequence} {method}",
            f"Contact: <sip:self-test@{self.address}:{self.local_port}>",
            f"{TRUNK_HEADER}: {self.trunk}",
            *(["Content-Type: application/sdp"] if body else []),
            f"Content-Length: {len(body)}",
        ]
        return ("\r\n".join(lines) + "\r\n\r\n" + body).encode("ascii")

    def offer(self) -> str:
        """SDP of one audio stream; nothing ever listens at its port."""
        profile = "RTP/SAVP" if self.srtp else "RTP/AVP"
        key = base64.b64encode(secrets.token_bytes(30)).decode("ascii")
        family = "IP6" if ":" in self.address else "IP4"
        lines = [
            "v=0",
            f"o=self-test 0 0 IN {family} {self.address}",
            "s=-",
            f"c=IN {family} {self.address}",
            "t=0 0",
            f"m=audio {self.local_port} {profile} 0 8",
            *([f"a=crypto:1 AES_CM_128_HMAC_SHA1_80 inline:{key}"] if self.srtp else []),
        ]
        return "\r\n".join(lines) + "\r\n"


class _Socket(asyncio.DatagramProtocol):
    def __init__(self) -> None:
        self.received: asyncio.Queue[bytes] = asyncio.Queue(maxsize=32)

    def datagram_received(self, data: bytes, addr: tuple[str, int]) -> None:
        del addr
        if not self.received.full():
            self.received.put_nowait(data)


async def knock(address: str, asterisk_port: int, number: str, trunk: str, *, srtp: bool) -> int:
    """The status of the final answer. Waits for it without end; raises OSError."""
    loop = asyncio.get_running_loop()
    transport, protocol = await loop.create_datagram_endpoint(_Socket, local_addr=(address, 0))
    try:
        call = Knock(
            address=address,
            asterisk_port=asterisk_port,
            local_port=cast("int", transport.get_extra_info("sockname")[1]),
            number=number,
            trunk=trunk,
            srtp=srtp,
            token=secrets.token_hex(8),
        )
        return await _until_final(call, transport, protocol.received)
    finally:
        transport.close()


async def _until_final(call: Knock, transport: asyncio.DatagramTransport, received: asyncio.Queue[bytes]) -> int:
    target = (call.address, call.asterisk_port)
    invite, pause_s, is_heard = call.request("INVITE", body=call.offer()), T1_S, False
    transport.sendto(invite, target)
    try:
        while True:
            try:
                async with asyncio.timeout(None if is_heard else pause_s):
                    answer = await received.get()
            except TimeoutError:
                transport.sendto(invite, target)
                pause_s *= 2
                continue
            match = _STATUS.match(answer)
            is_heard = is_heard or match is not None
            if match is None or int(match[1]) < 200:
                continue
            to, is_answered = _to_of(answer), int(match[1]) < 300
            transport.sendto(call.request("ACK", to=to, is_own=is_answered), target)
            if is_answered:
                transport.sendto(call.request("BYE", to=to, is_own=True), target)
            return int(match[1])
    except asyncio.CancelledError:
        transport.sendto(call.request("CANCEL"), target)
        raise


def _to_of(answer: bytes) -> str:
    found = _TO.search(answer)
    return found[1].decode("ascii", "replace").strip() if found else ""
