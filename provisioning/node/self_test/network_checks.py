"""Of the network: the node's NATS server, the way to the hub, the clocks of siblings."""

import asyncio
import contextlib
import json
import ssl
import time
from collections.abc import AsyncIterator
from dataclasses import dataclass
from datetime import datetime

import aiohttp
import nats.errors
from nats.aio.client import Client

from contract.subjects import inbox, ping
from provisioning.identity.names import ServiceRole
from provisioning.node.description import NodeDescription
from provisioning.node.identity_folder import IdentityFolder
from provisioning.node.self_test.checks import Check, CheckFailedError, CheckSkippedError

ANSWER_WITHIN_S = 5.0
# How long servers are listened to: each of a region answers at once.
CLOCKS_WITHIN_S = 1.0
# Far below what certificates forgive (five minutes); records of a call on two nodes stay in order.
MOST_SKEW_S = 1.0
_QUORUM_ADVICE = (
    "It needs most of the region's nodes: are they up, their ports 6222 open? `borough node render --reload --ask-hub`"
    " on each lets those in that joined meanwhile."
)
_NATS_ADVICE = "systemctl status borough-nats; the end of /var/log/borough/nats/nats-server.log says more"


@dataclass(frozen=True, slots=True)
class NetworkChecks:
    """One node."""

    node: NodeDescription
    identity: IdentityFolder

    def all(self) -> list[Check]:
        return [
            Check(name="region", within_s=15, ask=self.region, advice=_NATS_ADVICE),
            Check(name="hub", within_s=15, ask=self.hub, advice="Is the hub up, and port 7422 open to this node?"),
            Check(name="clock", within_s=15, ask=self.clock, advice=_NATS_ADVICE),
        ]

    async def region(self) -> str:
        """JetStream of the region decides."""
        async with self._connected(ServiceRole.AGENT, "_INBOX") as client:
            began = time.monotonic()
            try:
                answer = await client.request("$JS.API.INFO", b"", timeout=ANSWER_WITHIN_S)
            except nats.errors.Error as error:
                raise CheckFailedError(
                    f"JetStream of the region does not answer: {error}",
                    _QUORUM_ADVICE,
                ) from error
            took_ms = (time.monotonic() - began) * 1000
            document = json.loads(answer.data)
            if "error" in document:
                raise CheckFailedError(str(document["error"].get("description")), _QUORUM_ADVICE)
            return f"{document['streams']} streams, answered in {took_ms:.0f} ms"

    async def hub(self) -> str:
        """The hub's services hear this node over its link, and answer."""
        region, name = self.node.region, self.node.name
        async with self._connected(ServiceRole.BORDER, inbox(region, name)) as client:
            began = time.monotonic()
            try:
                await client.request(ping(region, name), b"", timeout=ANSWER_WITHIN_S)
            except nats.errors.Error as error:
                raise await self._unheard() from error
            return f"answered in {(time.monotonic() - began) * 1000:.0f} ms"

    async def clock(self) -> str:
        """This clock goes as those of the siblings."""
        if len(self.node.nodes) < 2:
            raise CheckSkippedError("there is no sibling to compare with")
        async with self._connected(ServiceRole.SYSTEM, "_INBOX") as client:
            skews = {name: skew for name, skew in (await _skews(client)).items() if name != self.node.name}
        if not skews:
            raise CheckSkippedError("no sibling answers")
        worst = max(skews, key=lambda name: abs(skews[name]))
        if abs(skews[worst]) > MOST_SKEW_S:
            raise CheckFailedError(
                f"{worst} is {skews[worst]:+.1f} s from this clock",
                "chronyc tracking on both: which one has no source?",
            )
        return f"{len(skews)} siblings within {max(abs(skew) for skew in skews.values()) * 1000:.0f} ms"

    async def _unheard(self) -> CheckFailedError:
        """Why the hub does not answer: the monitoring page of the own server lists the link."""
        hub = self.node.hub
        url = f"http://127.0.0.1:{self.node.nats.monitor}/leafz"
        try:
            async with aiohttp.ClientSession(raise_for_status=True) as session, session.get(url) as answer:
                is_linked = bool((await answer.json())["leafs"])
        except aiohttp.ClientError as error:
            return CheckFailedError(f"nats-server does not show its links: {error}", _NATS_ADVICE)
        if is_linked:
            return CheckFailedError("the link is up, the hub's services do not answer", "systemctl status on the hub.")
        return CheckFailedError(
            "the link to the hub is down",
            f"Can {hub.address}:{hub.leaf_port} be reached from here? Is this node still in `borough fleet status`?",
        )

    @contextlib.asynccontextmanager
    async def _connected(self, role: ServiceRole, inbox_prefix: str) -> AsyncIterator[Client]:
        files, client = self.identity.current(role), Client()
        try:
            context = ssl.create_default_context(ssl.Purpose.SERVER_AUTH, cafile=str(self.identity.authority))
            context.load_cert_chain(files.certificate, files.key)
            await client.connect(
                f"tls://{self.node.address}:{self.node.nats.client}",
                tls=context,
                inbox_prefix=inbox_prefix.encode(),
                allow_reconnect=False,
                connect_timeout=int(ANSWER_WITHIN_S),
                error_cb=_ignored,
            )
        except (OSError, ssl.SSLError, nats.errors.Error, TimeoutError) as error:
            await client.close()
            text = str(error) or type(error).__name__
            raise CheckFailedError(f"nats-server does not let {role} in: {text}", _NATS_ADVICE) from error
        try:
            yield client
        finally:
            await client.close()


async def _ignored(error: Exception) -> None:
    """Whoever waits is told; nats-py would log it on top."""


async def _skews(client: Client) -> dict[str, float]:
    """By server: how far its clock is ahead, in seconds."""
    reply, found = client.new_inbox(), {}
    subscription = await client.subscribe(reply)
    began = time.time()
    await client.publish("$SYS.REQ.SERVER.PING", b"", reply=reply)
    try:
        async with asyncio.timeout(CLOCKS_WITHIN_S):
            async for message in subscription.messages:
                middle = (began + time.time()) / 2
                server = json.loads(message.data)["server"]
                found[str(server["name"])] = _seconds(str(server["time"])) - middle
    except TimeoutError:
        pass
    return found


def _seconds(text: str) -> float:
    """Of RFC 3339 with nanoseconds."""
    head, _, rest = text.removesuffix("Z").partition(".")
    return datetime.fromisoformat(f"{head}+00:00").timestamp() + float(f"0.{rest or 0}")
