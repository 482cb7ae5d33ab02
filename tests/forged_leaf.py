"""A leaf node that keeps no rule: the protocol by hand, with a certificate of one's choice."""

import asyncio
import json
import ssl
from collections.abc import Mapping

HANDSHAKE_WITHIN_S = 5.0
ANSWER_WITHIN_S = 5.0


async def say(
    port: int,
    context: ssl.SSLContext,
    lines: bytes,
    connect: Mapping[str, object] | None = None,
    *,
    stays_s: float = 0.0,
) -> None:
    """Connect to a leaf port and say so much after CONNECT; returns once the hub has read all of it, or has closed.

    The connection stays for so long after that. Raises ssl.SSLError, OSError, TimeoutError.
    """
    async with asyncio.timeout(HANDSHAKE_WITHIN_S):
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        await reader.readline()
        await writer.start_tls(context, server_hostname="127.0.0.1")
    try:
        options = {
            "version": "2.15.1",
            "server_id": "NFORGED",
            "name": "forged",
            "cluster": "forged",
            "headers": True,
            "proto": 1,
            "compression": "off",
            "remote_account": "BORDER",
            **(connect or {}),
        }
        writer.write(b"CONNECT " + json.dumps(options).encode() + b"\r\nPING\r\n")
        await _until_read(reader)
        writer.write(lines + b"PING\r\n")
        await _until_read(reader)
        await asyncio.sleep(stays_s)
    except ConnectionError:
        pass  # Closed while we wrote: what it thinks of us is in its log.
    finally:
        writer.close()


async def _until_read(reader: asyncio.StreamReader) -> None:
    """A server reads in order: once it answers a ping, it has dealt with all that came before."""
    async with asyncio.timeout(ANSWER_WITHIN_S):
        while (line := await reader.readline()) and not line.startswith(b"PONG"):
            pass


def message(subject: str, payload: bytes, reply: str = "") -> bytes:
    """A message as leaf nodes send it."""
    head = f"LMSG {subject} {reply + ' ' if reply else ''}{len(payload)}\r\n"
    return head.encode() + payload + b"\r\n"


def message_with_header(subject: str, header: bytes, payload: bytes) -> bytes:
    """The same, with a header block."""
    block = b"NATS/1.0\r\n" + header + b"\r\n\r\n"
    return f"HMSG {subject} {len(block)} {len(block) + len(payload)}\r\n".encode() + block + payload + b"\r\n"
