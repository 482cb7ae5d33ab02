"""SIP messages by hand, for what no well-behaved program sends."""

import itertools
import socket
import time

from tests.ansible.front_door.network import Host

_NUMBERS = itertools.count(1)
SDP = (
    "v=0\r\no=- 1 1 IN {kind} {host}\r\ns=-\r\nc=IN {kind} {host}\r\nt=0 0\r\n"
    "m=audio 40000 RTP/AVP 0\r\na=rtpmap:0 PCMU/8000\r\n"
)


def request(
    method: str,
    uri: str,
    *,
    source: tuple[str, int],
    via: str | None = None,
    headers: tuple[str, ...] = (),
    max_forwards: int = 70,
    body: str = "",
    to_tag: str = "",
) -> bytes:
    """A request with a new Call-ID and branch."""
    number = next(_NUMBERS)
    host = uri_host(source[0])
    lines = [
        f"{method} {uri} SIP/2.0",
        f"Via: SIP/2.0/UDP {via or f'{host}:{source[1]}'};branch=z9hG4bKt{number}",
        f"From: <sip:+15557009001@{host}>;tag=f{number}",
        f"To: <{uri}>{to_tag and f';tag={to_tag}'}",
        f"Call-ID: t{number}@{host}",
        f"CSeq: 1 {method}",
        f"Contact: <sip:t@{host}:{source[1]}>",
        f"Max-Forwards: {max_forwards}",
        *headers,
    ]
    if body:
        lines.append("Content-Type: application/sdp")
    lines.append(f"Content-Length: {len(body)}")
    return ("\r\n".join(lines) + "\r\n\r\n" + body).encode()


def invite(number: str, to: tuple[str, int], *, source: tuple[str, int], **more: object) -> bytes:
    """A new call with an offer."""
    uri = f"sip:{number}@{uri_host(to[0])}:{to[1]}"
    return request("INVITE", uri, source=source, body=_offer(source[0]), **more)  # type: ignore[arg-type]


def uri_host(address: str) -> str:
    """An address as SIP writes it."""
    return f"[{address}]" if ":" in address else address


def _offer(address: str) -> str:
    return SDP.format(host=address, kind="IP6" if ":" in address else "IP4")


def bound(host: Host, port: int, *, timeout_s: float = 2.0, address: str = "") -> socket.socket:
    """A UDP socket of a host, at its own address unless told otherwise."""
    own = address or host.address
    opened = host.open_socket(socket.SOCK_DGRAM, socket.AF_INET6 if ":" in own else socket.AF_INET)
    opened.bind((own, port))
    opened.settimeout(timeout_s)
    return opened


def exchange(opened: socket.socket, message: bytes, to: tuple[str, int]) -> str:
    """The whole final answer to a request; empty when none comes in time."""
    opened.sendto(message, to)
    try:
        while (text := opened.recv(65_536).decode()).startswith("SIP/2.0 1"):
            continue
    except TimeoutError:
        return ""
    return text


def received(opened: socket.socket, method: str, *, within_s: float = 5.0) -> bytes:
    """The next request of this method; pings are answered meanwhile."""
    ends = time.monotonic() + within_s
    while (left_s := ends - time.monotonic()) > 0:
        opened.settimeout(left_s)
        message, sender = opened.recvfrom(65_536)
        if message.startswith(f"{method} ".encode()):
            return message
        if is_ping(message):
            opened.sendto(pong(message), sender)
    raise TimeoutError(f"no {method} within {within_s:.1f} s")


def is_ping(message: bytes) -> bool:
    """Whether the front door asks if the node lives."""
    return message.startswith(b"OPTIONS ") and b"sip:front-door@" in message


def cancelling(offer: bytes) -> bytes:
    """The CANCEL of a request, as its sender writes it (RFC 3261 9.1)."""
    head = offer.decode().split("\r\n\r\n", 1)[0].split("\r\n")
    kept = [line for line in head[1:] if line.split(":", 1)[0] in {"Via", "From", "To", "Call-ID", "Max-Forwards"}]
    number = next(line.split()[1] for line in head if line.startswith("CSeq:"))
    lines = [f"CANCEL {head[0].split()[1]} SIP/2.0", *kept, f"CSeq: {number} CANCEL", "Content-Length: 0", "", ""]
    return "\r\n".join(lines).encode()


def replied(message: bytes, code: int, reason: str) -> bytes:
    """An answer without a body."""
    head = message.decode().split("\r\n\r\n", 1)[0].split("\r\n")
    kept = [line for line in head if line.split(":", 1)[0] in {"Via", "Record-Route", "From", "Call-ID", "CSeq"}]
    to = next(line for line in head if line.startswith("To:"))
    return "\r\n".join([f"SIP/2.0 {code} {reason}", *kept, f"{to};tag=node", "Content-Length: 0", "", ""]).encode()


def pong(ping: bytes) -> bytes:
    """The node lives."""
    head = ping.decode().split("\r\n\r\n", 1)[0].split("\r\n")
    kept = [line for line in head if line.split(":", 1)[0] in {"Via", "From", "To", "Call-ID", "CSeq"}]
    return "\r\n".join(["SIP/2.0 200 OK", *kept, "Content-Length: 0", "", ""]).encode()


def accepted(offer: bytes, *, at: tuple[str, int]) -> bytes:
    """200 OK to an offer, from a node at this address."""
    head = offer.decode().split("\r\n\r\n", 1)[0].split("\r\n")
    kept = [line for line in head if line.split(":", 1)[0] in {"Via", "Record-Route", "From", "Call-ID", "CSeq"}]
    to = next(line for line in head if line.startswith("To:"))
    body = _offer(at[0])
    lines = ["SIP/2.0 200 OK", *kept, f"{to};tag=node", f"Contact: <sip:{uri_host(at[0])}:{at[1]}>"]
    lines += ["Content-Type: application/sdp", f"Content-Length: {len(body)}"]
    return ("\r\n".join(lines) + "\r\n\r\n" + body).encode()


def answer(opened: socket.socket, *, final: bool = True) -> str | None:
    """The next (final) answer's first line, or None when nothing comes in time."""
    try:
        while True:
            line = opened.recv(65_536).split(b"\r\n", 1)[0].decode()
            if not final or not line.startswith("SIP/2.0 1"):
                return line
    except TimeoutError:
        return None
