"""The page's interface refuses what does not come from the page, and says why in a form the page can show."""

import asyncio
import json

import pytest
from aiohttp import ClientSession, WSMsgType, WSServerHandshakeError

from edge.call.ports import FRAME_BYTES
from edge.web.origin import is_known_host, is_same_origin
from tests.edge.web.conftest import EchoAcceptor
from tests.edge.web.peer import Peer, level, open_peer


def own_origin(url: str) -> dict[str, str]:
    return {"Origin": url.rstrip("/")}


async def start(client: ClientSession, url: str, peer: Peer) -> dict[str, str]:
    body = {"agent": "pharmacy", "sdp": await peer.offer()}
    async with client.post(f"{url}api/calls", json=body, headers=own_origin(url)) as response:
        assert response.status == 201
        started: dict[str, str] = await response.json()
    await peer.accept(started["sdp"])
    return started


async def test_a_call_echoes_and_its_events_end_with_it(page_url: str, acceptor: EchoAcceptor) -> None:
    acceptor.greeting = bytes(FRAME_BYTES)
    async with ClientSession() as client, open_peer() as peer, asyncio.timeout(15), asyncio.TaskGroup() as group:
        started = await start(client, page_url, peer)
        listening = group.create_task(peer.listen())
        async with client.ws_connect(
            f"{page_url}api/calls/{started['call_id']}/events",
            protocols=("borough.events", started["token"]),
            headers=own_origin(page_url),
        ) as socket:
            assert socket.protocol == "borough.events"
            peer.voice.is_on = True
            events = [await socket.receive_json() for _ in range(3)]
            while level(peer.heard_pcm()[-4800:]) < 1000:
                peer.has_heard_more.clear()
                await peer.has_heard_more.wait()
            await socket.send_str("not json")
            await socket.send_str(json.dumps({"type": "hang_up"}))
            async for message in socket:
                assert message.type is WSMsgType.TEXT
                events.append(json.loads(message.data))
        listening.cancel()
    assert [event["type"] for event in events[:3]] == ["state_changed", "state_changed", "agent_said"]
    assert events[-1] == {"type": "call_ended", "outcome": "contained", "reason": "the caller hung up"}
    assert acceptor.used == 0


async def test_events_are_closed_to_who_has_not_the_calls_token(page_url: str, acceptor: EchoAcceptor) -> None:
    acceptor.capacity = 2
    async with ClientSession() as client, open_peer() as peer, open_peer() as other, asyncio.timeout(15):
        started, foreign = await start(client, page_url, peer), await start(client, page_url, other)
        url = f"{page_url}api/calls/{started['call_id']}/events"
        for protocols in (("borough.events",), ("borough.events", "x"), ("borough.events", foreign["token"])):
            with pytest.raises(WSServerHandshakeError) as refused:
                await client.ws_connect(url, protocols=protocols, headers=own_origin(page_url))
            assert refused.value.status == 404
        protocols = ("borough.events", started["token"])
        with pytest.raises(WSServerHandshakeError) as refused:
            await client.ws_connect(url, protocols=protocols, headers={"Origin": "http://evil.example"})
        assert refused.value.status == 403


@pytest.mark.parametrize("origin", [None, "null", "http://evil.example", "http://127.0.0.1:1", "ftp://127.0.0.1"])
async def test_another_site_cannot_place_a_call(page_url: str, acceptor: EchoAcceptor, origin: str | None) -> None:
    headers = {"Origin": origin} if origin else {}
    body = {"agent": "pharmacy", "sdp": ""}
    async with ClientSession() as client, client.post(f"{page_url}api/calls", json=body, headers=headers) as response:
        assert response.status == 403
        assert (await response.json())["code"] == "web.foreign_origin"
    assert acceptor.agents == []


async def test_a_name_that_was_rebound_to_this_node_gets_nothing(page_url: str) -> None:
    async with ClientSession() as client, client.get(page_url, headers={"Host": "evil.example"}) as response:
        assert response.status == 403


@pytest.mark.parametrize(
    ("body", "status", "code"),
    [
        (b"{", 400, "web.malformed_request"),
        (b"[]", 400, "web.malformed_request"),
        (b"\xff", 400, "web.malformed_request"),
        (b'{"agent": 1, "sdp": ""}', 400, "web.malformed_request"),
        (b'{"agent": "nobody", "sdp": ""}', 404, "web.unknown_agent"),
        (b'{"agent": "pharmacy", "sdp": "nonsense"}', 400, "media.webrtc_offer"),
    ],
)
async def test_a_bad_request_is_answered_with_code_and_hint(
    page_url: str, acceptor: EchoAcceptor, body: bytes, status: int, code: str
) -> None:
    headers = own_origin(page_url)
    async with ClientSession() as client, client.post(f"{page_url}api/calls", data=body, headers=headers) as response:
        assert response.status == status
        answer = await response.json()
    assert answer["code"] == code
    assert answer["hint"]
    assert acceptor.used == 0


async def test_a_huge_body_is_refused(page_url: str) -> None:
    body, headers = b" " * 70_000, own_origin(page_url)
    async with ClientSession() as client, client.post(f"{page_url}api/calls", data=body, headers=headers) as response:
        assert response.status == 413


async def test_a_full_node_answers_503_with_retry_after(page_url: str, acceptor: EchoAcceptor) -> None:
    acceptor.capacity = 0
    body, headers = {"agent": "pharmacy", "sdp": ""}, own_origin(page_url)
    async with ClientSession() as client, client.post(f"{page_url}api/calls", json=body, headers=headers) as response:
        assert response.status == 503
        assert int(response.headers["Retry-After"]) > 0
        assert (await response.json())["code"] == "call.no_capacity"


async def test_the_page_runs_nothing_but_its_own_files(page_url: str) -> None:
    async with ClientSession() as client:
        for path in ("", "app.js", "style.css", "api/agents"):
            async with client.get(page_url + path) as response:
                assert response.status == 200
                assert "default-src 'none'" in response.headers["Content-Security-Policy"]
                text = await response.text()
                assert "http://" not in text.replace("http://localhost", "")
                assert "https://" not in text.replace("over https://", "")


@pytest.mark.parametrize(
    ("host", "is_known"),
    [
        ("localhost:8080", True),
        ("127.0.0.1", True),
        ("[::1]:80", True),
        ("node-1.example:443", True),
        ("evil.example", False),
        ("", False),
        ("[", False),
    ],
)
def test_names_of_this_node(host: str, *, is_known: bool) -> None:
    assert is_known_host(host, {"node-1.example"}) is is_known


def test_the_same_origin_is_the_same_host_and_port() -> None:
    assert is_same_origin("https://node-1.example", "node-1.example")
    assert is_same_origin("http://NODE-1.example:8080", "node-1.example:8080")
    assert not is_same_origin("http://node-1.example:8080", "node-1.example")
    assert not is_same_origin("http://[", "node-1.example")
