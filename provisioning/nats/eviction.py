"""Ends the links of nodes that were revoked. A reload closes the connections of clients whose user is gone, but not
those of leaf nodes (seen with nats-server 2.15.1), so the hub's links are closed here: those that are still welcome
come back within a second or two.
"""

import json
import ssl
from dataclasses import dataclass
from pathlib import Path

import aiohttp
import nats
import nats.errors

from provisioning.nats.errors import NatsConfigError
from provisioning.nats.topology import Hub

TIMEOUT_S = 5.0


@dataclass(frozen=True, slots=True, kw_only=True)
class SystemAccess:
    """Certificate and key of the hub's system user."""

    authority: Path
    certificate: Path
    key: Path


async def close_links(hub: Hub, access: SystemAccess) -> int:
    """Close every leaf link of the hub; returns how many. Raises NatsConfigError if the hub does not answer."""
    context = ssl.create_default_context(ssl.Purpose.SERVER_AUTH, cafile=str(access.authority))
    context.load_cert_chain(access.certificate, access.key)
    try:
        server, links = await _links(hub)
        client = await nats.connect(f"tls://{hub.address}:{hub.client_port}", tls=context, allow_reconnect=False)
        try:
            for link in links:
                body = json.dumps({"cid": link}).encode()
                await client.request(f"$SYS.REQ.SERVER.{server}.KICK", body, timeout=TIMEOUT_S)
        finally:
            await client.close()
    except (aiohttp.ClientError, nats.errors.Error, OSError, TimeoutError) as error:
        raise NatsConfigError(
            f"the hub's links could not be closed: {error}", hint="Is the hub's server up?"
        ) from error
    return len(links)


async def _links(hub: Hub) -> tuple[str, list[int]]:
    timeout = aiohttp.ClientTimeout(total=TIMEOUT_S)
    url = f"http://127.0.0.1:{hub.monitor_port}/leafz"
    async with aiohttp.ClientSession(timeout=timeout, raise_for_status=True) as session, session.get(url) as answer:
        document = await answer.json()
    return str(document["server_id"]), [int(link["id"]) for link in document["leafs"] or []]
