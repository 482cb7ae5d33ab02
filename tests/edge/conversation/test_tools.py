"""Webhooks get exactly their arguments and may fail in every way without harm."""

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path

import aiohttp
import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer

from edge.conversation.agent import Argument, SlotKind, ToolSpec
from edge.conversation.dialogue import RunTool
from edge.conversation.tools import Toolbox, Webhook

Answer = Callable[[web.Request], Awaitable[web.StreamResponse]]


class Orders:
    """A real web server whose answer a test chooses."""

    def __init__(self) -> None:
        self.answer: Answer = self._shipped
        self.requests: list[tuple[dict[str, str], dict[str, str]]] = []
        self.url = ""

    async def serve(self, request: web.Request) -> web.StreamResponse:
        self.requests.append((await request.json(), dict(request.headers)))
        return await self.answer(request)

    async def _shipped(self, _request: web.Request) -> web.StreamResponse:
        return web.json_response({"status": "shipped", "parcels": 2, "is_late": False, "note": None})


@pytest.fixture
async def orders() -> AsyncIterator[Orders]:
    orders = Orders()
    app = web.Application()
    app.router.add_post("/status", orders.serve)
    server = TestServer(app)
    await server.start_server()
    orders.url = str(server.make_url("/status"))
    yield orders
    await server.close()


@pytest.fixture
async def session() -> AsyncIterator[aiohttp.ClientSession]:
    async with aiohttp.ClientSession() as session:
        yield session


def _spec(url: str | None, *, timeout_s: float = 2.0, secret_file: Path | None = None) -> ToolSpec:
    return ToolSpec(
        name="status",
        url=url,
        arguments={"order": Argument(kind=SlotKind.DIGITS, digits=6)},
        timeout_s=timeout_s,
        response_limit_bytes=200,
        secret_file=secret_file,
    )


async def _run(spec: ToolSpec, session: aiohttp.ClientSession, order: str = "427719") -> tuple[dict[str, str], str]:
    toolbox = Toolbox({"status": Webhook(spec, session)})
    result = await toolbox.run(RunTool(tool="status", arguments={"order": order}), key="call-1:3")
    return dict(result.fields), result.error or ""


async def test_a_webhook_gets_arguments_key_and_secret(
    orders: Orders, session: aiohttp.ClientSession, tmp_path: Path
) -> None:
    """The request carries the order, the idempotency key and the bearer token; the answer becomes text fields."""
    secret = tmp_path / "secret"
    secret.write_text("s3cret\n")
    fields, error = await _run(_spec(orders.url, secret_file=secret), session)
    assert (fields, error) == ({"status": "shipped", "parcels": "2", "is_late": "no"}, "")
    body, headers = orders.requests[0]
    assert body == {"order": "427719"}
    assert (headers["Idempotency-Key"], headers["Authorization"]) == ("call-1:3", "Bearer s3cret")


async def _slow(request: web.Request) -> web.StreamResponse:
    await asyncio.sleep(3.0)
    return web.Response(text="{}")


async def _refused(request: web.Request) -> web.StreamResponse:
    return web.Response(status=503)


async def _elsewhere(request: web.Request) -> web.StreamResponse:
    raise web.HTTPFound("http://169.254.169.254/")


async def _large(request: web.Request) -> web.StreamResponse:
    return web.Response(text=json.dumps({"status": "x" * 500}))


async def _not_json(request: web.Request) -> web.StreamResponse:
    return web.Response(body=b"\xff<html>")


async def _nested(request: web.Request) -> web.StreamResponse:
    return web.json_response({"status": {"deep": 1}})


async def _list(request: web.Request) -> web.StreamResponse:
    return web.json_response([1])


async def _half_a_character(request: web.Request) -> web.StreamResponse:
    return web.Response(text='{"status": "\\ud800"}')


@pytest.mark.parametrize(
    ("answer", "code"),
    [
        (_slow, "tool_late"), (_refused, "tool_refused"), (_elsewhere, "tool_refused"), (_large, "tool_answer"),
        (_not_json, "tool_answer"), (_nested, "tool_answer"), (_list, "tool_answer"),
        (_half_a_character, "tool_answer"),
    ],
)  # fmt: skip
async def test_a_bad_answer_is_an_error_code(
    orders: Orders, session: aiohttp.ClientSession, answer: Answer, code: str
) -> None:
    """Late, refused, redirected, too large, not JSON, nested: each has its code, none raises."""
    orders.answer = answer
    assert await _run(_spec(orders.url, timeout_s=1.0), session) == ({}, code)


async def test_nobody_listens(session: aiohttp.ClientSession) -> None:
    """A refused connection is unreachable; a tool without address is not configured."""
    assert await _run(_spec("http://127.0.0.1:9/status"), session) == ({}, "tool_unreachable")
    assert await _run(_spec(None), session) == ({}, "tool_not_configured")


@pytest.mark.parametrize("order", ["42771", "42771a", "", "\uff14\uff12\uff17\uff17\uff11\uff19"])
async def test_wrong_arguments_are_never_sent(orders: Orders, session: aiohttp.ClientSession, order: str) -> None:
    """Six ASCII digits or nothing."""
    assert await _run(_spec(orders.url), session, order) == ({}, "tool_arguments")
    assert orders.requests == []


async def test_an_unknown_tool_is_not_configured() -> None:
    """A flow may name a tool that this node lacks."""
    result = await Toolbox({}).run(RunTool(tool="x", arguments={}), key="k")
    assert result.error == "tool_not_configured"
