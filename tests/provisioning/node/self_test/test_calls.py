"""The checks of calls against a real Asterisk as it runs behind a front door."""

import asyncio
import json
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path

import aiohttp
import pytest

from provisioning.asterisk.instance import AsteriskInstance
from provisioning.asterisk.settings import AriAccess, PortRange
from provisioning.nats.topology import Region
from provisioning.node.description import NodeDescription, parse_description
from provisioning.node.rendering import asterisk_settings
from provisioning.node.roster import region_of_peers
from provisioning.node.self_test.call_checks import CallChecks
from provisioning.node.self_test.checks import CheckFailedError
from provisioning.node.self_test.sip_caller import Knock
from tests.asterisk_pair import free_ports, require_asterisk
from tests.provisioning.node.conftest import node_toml

WITHIN_S = 20.0
UNALLOCATED, CONGESTED = 1, 34


def _node(sip_port: int) -> NodeDescription:
    """A node of one on loopback, with one worker."""
    text = node_toml("in-south-1", ("in-south-1",)).replace("10.20.0.11", "127.0.0.1").replace('vip = "10.20.0.10"', "")
    text = text.replace("workers = 2", f"workers = 1\n[sip]\nasterisk_port = {sip_port}")
    node = parse_description(Path("node.toml"), text)
    assert isinstance(node, NodeDescription)
    return node


def _region(node: NodeDescription) -> Region:
    return region_of_peers(node.region, node.nodes, node.nats)


class Worker:
    """Takes calls of one Stasis app, refuses each with a cause, and counts them as a worker does."""

    def __init__(self, asterisk: AsteriskInstance) -> None:
        self.cause = UNALLOCATED
        self.counts = True
        self._refused = 0
        self._settings = asterisk.settings

    def metrics(self) -> str:
        reason = "cordoned" if self.cause == CONGESTED else "unknown_number"
        return f'borough_calls_refused_total{{reason="{reason}"}} {self._refused}.0\n'

    @asynccontextmanager
    async def listening(self) -> AsyncIterator[int]:
        """Serve until the block ends; gives the port of its metrics."""
        ari = self._settings.ari
        headers = {"Authorization": aiohttp.encode_basic_auth(ari.user, ari.password)}
        url = f"http://127.0.0.1:{self._settings.http_port}/ari"
        async with (
            aiohttp.ClientSession(headers=headers) as session,
            session.ws_connect(f"{url}/events?app=calls-1&subscribeAll=false") as events,
            asyncio.TaskGroup() as tasks,
        ):
            refusing = tasks.create_task(self._refuse(session, url, events))
            server = await asyncio.start_server(self._show, "127.0.0.1", 0)
            try:
                yield int(server.sockets[0].getsockname()[1])
            finally:
                server.close()
                refusing.cancel()

    async def _refuse(self, session: aiohttp.ClientSession, url: str, events: aiohttp.ClientWebSocketResponse) -> None:
        async for message in events:
            event = json.loads(message.data)
            if event["type"] == "StasisStart":
                self._refused += self.counts
                channel = event["channel"]["id"]
                async with session.delete(f"{url}/channels/{channel}?reason_code={self.cause}") as answer:
                    assert answer.status == 204

    async def _show(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        body = self.metrics()
        writer.write(f"HTTP/1.0 200 OK\r\nContent-Length: {len(body)}\r\n\r\n{body}".encode())
        await writer.drain()
        writer.close()


@pytest.fixture
async def asterisk(tmp_path: Path) -> AsyncIterator[tuple[NodeDescription, AsteriskInstance]]:
    root = require_asterisk()
    (sip_port,), (http_port,) = free_ports(socket.SOCK_DGRAM, 1), free_ports(socket.SOCK_STREAM, 1)
    node = _node(sip_port)
    settings = replace(
        asterisk_settings(node, _region(node)),
        directory=tmp_path / "asterisk",
        http_port=http_port,
        rtp_ports=PortRange(first=31_000, last=31_998),
        ari=AriAccess(password="of-a-test"),  # noqa: S106
    )
    (tmp_path / "ari").write_text("of-a-test\n")
    async with AsteriskInstance(root, settings) as instance:
        yield node, instance


def _checks(
    node: NodeDescription, instance: AsteriskInstance, folder: Path, web_ports: tuple[int, ...] = ()
) -> CallChecks:
    return CallChecks(
        node=node,
        password_file=folder / "ari",
        ari_port=instance.settings.http_port,
        web_ports=web_ports,
    )


async def test_a_knock_reaches_a_worker_and_is_refused(
    asterisk: tuple[NodeDescription, AsteriskInstance], tmp_path: Path
) -> None:
    """404 where the number is looked up, 503 where the node is cordoned; and the worker's own count says so."""
    node, instance = asterisk
    worker = Worker(instance)
    async with worker.listening() as port, asyncio.timeout(WITHIN_S):
        checks = _checks(node, instance, tmp_path, (port,))
        assert "1 listen" in await checks.workers()
        assert "looked the number up" in await checks.call()
        worker.cause = CONGESTED
        assert "cordoned" in await checks.call()
        worker.counts = False
        with pytest.raises(CheckFailedError, match="no worker took the call"):
            await checks.call()


async def test_without_a_worker_the_call_fails(
    asterisk: tuple[NodeDescription, AsteriskInstance], tmp_path: Path
) -> None:
    """Asterisk alone is not enough."""
    node, instance = asterisk
    checks = _checks(node, instance, tmp_path, (free_ports(socket.SOCK_STREAM, 1)[0],))
    async with asyncio.timeout(WITHIN_S):
        assert "Asterisk 2" in await checks.asterisk()
        with pytest.raises(CheckFailedError, match="calls-1 do not listen"):
            await checks.workers()
        with pytest.raises(CheckFailedError, match="shows no metrics"):
            await checks.call()


async def test_a_wrong_password_is_named(asterisk: tuple[NodeDescription, AsteriskInstance], tmp_path: Path) -> None:
    """After a rotation that Asterisk has not heard of."""
    node, instance = asterisk
    (tmp_path / "ari").write_text("another")
    with pytest.raises(CheckFailedError, match="401") as refused:
        await _checks(node, instance, tmp_path).asterisk()
    assert "restart borough-asterisk" in refused.value.advice


async def test_an_answer_of_asterisk_itself_is_not_enough(
    asterisk: tuple[NodeDescription, AsteriskInstance], tmp_path: Path
) -> None:
    """It says 404 to a trunk that it does not know, as a worker does to a number."""
    node, instance = asterisk
    worker = Worker(instance)
    stranger = replace(node, trunks=(replace(node.trunks[0], name="nobody"),))
    async with worker.listening() as port, asyncio.timeout(WITHIN_S):
        with pytest.raises(CheckFailedError, match="Asterisk itself answered 404"):
            await _checks(stranger, instance, tmp_path, (port,)).call()


@pytest.mark.parametrize("profile", ["RTP/AVP", "RTP/SAVP"])
def test_a_request_is_sip(profile: str) -> None:
    """Lines end as RFC 3261 wants, the length is the body's, and the ACK of a refusal belongs to its INVITE."""
    call = Knock(
        address="10.0.0.1",
        asterisk_port=5080,
        local_port=40000,
        number="self-test",
        trunk="carrier",
        srtp=profile == "RTP/SAVP",
        token="abc",  # noqa: S106
    )
    invite = call.request("INVITE", body=call.offer())
    head, _, body = invite.partition(b"\r\n\r\n")
    assert f"Content-Length: {len(body)}".encode() in head.split(b"\r\n")
    assert b"X-Borough-Trunk: carrier" in head
    assert f" {profile} ".encode() in body
    assert (b"a=crypto" in body) == (profile == "RTP/SAVP")
    branch = b"branch=z9hG4bKabc;"
    assert branch in invite
    assert branch in call.request("ACK", to="<sip:x>;tag=1")
    assert branch not in call.request("ACK", to="<sip:x>;tag=1", is_own=True)
    assert b"To: <sip:x>;tag=1\r\n" in call.request("BYE", to="<sip:x>;tag=1", is_own=True)
