"""Runs on a node: what does the region give to whoever holds this identity? Prints hub and server, "let in" or why not.

use_identity.py FOLDER HUB:PORT SERVER:PORT [SERVER:PORT ...]
"""

import asyncio
import json
import ssl
import sys
from pathlib import Path

import nats.errors
from nats.aio.client import Client

from contract.errors import BoroughError
from provisioning.identity.names import ServiceRole
from provisioning.node.enrolment.hub import enrolment_hub
from provisioning.node.identity_folder import IdentityFolder

LET_IN = "let in"
WITHIN_S = 10


async def _ask_hub(folder: IdentityFolder, address: str) -> str:
    try:
        async with enrolment_hub(address, folder.authority.read_bytes(), folder) as hub:
            await hub.members()
    except BoroughError as error:
        return f"{error.code}: {error}"
    return LET_IN


async def _ask_server(folder: IdentityFolder, address: str) -> str:
    files, client = folder.current(ServiceRole.AGENT), Client()
    context = ssl.create_default_context(ssl.Purpose.SERVER_AUTH, cafile=str(folder.authority))
    context.load_cert_chain(files.certificate, files.key)
    try:
        await client.connect(f"tls://{address}", tls=context, allow_reconnect=False, connect_timeout=WITHIN_S)
    except (nats.errors.Error, OSError, TimeoutError) as error:
        return f"{type(error).__name__}: {error}"
    await client.close()
    return LET_IN


async def _answers(folder: IdentityFolder, hub: str, servers: list[str]) -> dict[str, str]:
    return {hub: await _ask_hub(folder, hub)} | {server: await _ask_server(folder, server) for server in servers}


if __name__ == "__main__":
    identity = IdentityFolder(Path(sys.argv[1]))
    print(json.dumps(asyncio.run(_answers(identity, sys.argv[2], sys.argv[3:]))))  # noqa: T201 - its answer
