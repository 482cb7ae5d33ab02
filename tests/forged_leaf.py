"""A leaf node that keeps no rule: the protocol by hand, with a certificate of one's choice."""

import asyncio
import json
import ssl
from collections.abc import Mapping
from dataclasses import dataclass

HANDSHAKE_WITHIN_S = 5.0
ANSWER_WITHIN_S = 0.5


@dataclass(frozen=True, slots=True)
class Answer:
    """What the hub said until it closed, or until it had nothing more to say."""

    text: str

    @property
    def is_refusal(self) -> bool:
        return "-ERR" in self.text


async def say(port: int, context: ssl.SSLContext, lines: bytes, connect: Mapping[str, object] | None = None) -> Answer:
    """Connect to a leaf port, say so much after CONNECT, and listen to the answer. Raises ssl.SSLError, OSError."""
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
        await _until_quiet(reader)
        writer.write(lines + b"PING\r\n")
        return Answer(await _until_quiet(reader))
    except OSError as error:
        # Closed while we wrote: what it thinks of us it said before.
        return Answer(f"-ERR {error}")
    finally:
        writer.close()


async def _until_quiet(reader: asyncio.StreamReader) -> str:
    heard = b""
    while True:
        try:
            async with asyncio.timeout(ANSWER_WITHIN_S):
                piece = await reader.read(65_536)
        except TimeoutError:
            return heard.decode(errors="replace")
        if not piece:
            return heard.decode(errors="replace")
        heard += piece


def message(subject: str, payload: bytes, reply: str = "") -> bytes:
    """A message as leaf nodes send it."""
    head = f"LMSG {subject} {reply + ' ' if reply else ''}{len(payload)}\r\n"
    return head.encode() + payload + b"\r\n"


def message_with_header(subject: str, header: bytes, payload: bytes) -> bytes:
    """The same, with a header block."""
    block = b"NATS/1.0\r\n" + header + b"\r\n\r\n"
    return f"HMSG {subject} {len(block)} {len(block) + len(payload)}\r\n".encode() + block + payload + b"\r\n"
