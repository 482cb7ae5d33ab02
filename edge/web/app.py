"""The page's HTTP interface: static files, the list of agents, an offer for an answer, a socket of live events.

Security: same-origin only (`edge.web.origin`), small bodies, a content policy that runs nothing but our own files, and
for each call a token that opens its events. The token travels as a WebSocket subprotocol, since URLs end up in logs.
"""

import asyncio
import json
from collections.abc import Awaitable, Callable, Collection, Sequence
from dataclasses import asdict
from importlib import resources

from aiohttp import WSMsgType, web

from contract.errors import BoroughError
from edge.call.errors import NoCapacityError, NodeCordonedError
from edge.call.observer import CallEnded
from edge.media.webrtc import WebRtcOfferError, WebRtcSettings
from edge.web.calls import AgentListing, WebCallAcceptor, WebCalls
from edge.web.errors import ForeignOriginError, MalformedRequestError, UnknownAgentError, UnknownCallError
from edge.web.live_events import Subscription, encode_event
from edge.web.origin import is_known_host, is_same_origin

BODY_LIMIT_BYTES = 64 * 1024  # an offer with one audio track is about 6 KB
RETRY_AFTER_S = 20
HEARTBEAT_S = 15.0
EVENTS_PROTOCOL = "borough.events"
CALLS = web.AppKey("calls", WebCalls)
ALLOWED_HOSTS: web.AppKey[Collection[str]] = web.AppKey("allowed_hosts")
FILES = {
    "": ("index.html", "text/html"),
    "app.js": ("app.js", "text/javascript"),
    "style.css": ("style.css", "text/css"),
}
HEADERS = {
    "Content-Security-Policy": "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; "
    "img-src 'self' data:; media-src 'self' blob:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
    "Permissions-Policy": "microphone=(self), camera=(), geolocation=()",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
    "Cache-Control": "no-store",
}
STATUS = {
    NoCapacityError: 503,
    NodeCordonedError: 503,
    WebRtcOfferError: 400,
    MalformedRequestError: 400,
    ForeignOriginError: 403,
    UnknownAgentError: 404,
    UnknownCallError: 404,
}
Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


def create_web_app(
    agents: Sequence[AgentListing],
    acceptor: WebCallAcceptor,
    *,
    tasks: asyncio.TaskGroup,
    allowed_hosts: Collection[str] = (),
    settings: WebRtcSettings | None = None,
) -> web.Application:
    """The page and its interface. Calls run as tasks of `tasks`; `allowed_hosts` are the node's DNS names.

    On shutdown of the application the calls that are still running are cancelled; drain them before.
    """
    app = web.Application(middlewares=[_guard], client_max_size=BODY_LIMIT_BYTES)
    app[CALLS] = WebCalls(agents, acceptor, tasks, settings or WebRtcSettings())
    app[ALLOWED_HOSTS] = frozenset(allowed_hosts)
    app.add_routes([web.get(f"/{path}", _show_file) for path in FILES])
    app.add_routes([
        web.get("/api/agents", _list_agents),
        web.post("/api/calls", _start_call),
        web.get("/api/calls/{call_id}/events", _watch_call),
    ])  # fmt: skip
    app.on_shutdown.append(_cancel_calls)
    return app


@web.middleware
async def _guard(request: web.Request, handler: Handler) -> web.StreamResponse:
    try:
        _check_origin(request)
        response = await handler(request)
    except BoroughError as error:
        response = _show_error(error)
    if not response.prepared:
        response.headers.update(HEADERS)
    return response


def _check_origin(request: web.Request) -> None:
    if not is_known_host(request.host, request.app[ALLOWED_HOSTS]):
        raise ForeignOriginError(f"{request.host!r} is not a name of this node")
    is_plain_read = request.method in {"GET", "HEAD"} and "Upgrade" not in request.headers
    if not is_plain_read and not is_same_origin(request.headers.get("Origin"), request.host):
        raise ForeignOriginError("the request comes from another site")


def _show_error(error: BoroughError) -> web.Response:
    status = STATUS.get(type(error), 500)
    body = {"code": error.code, "message": str(error), "hint": error.hint}
    headers = {"Retry-After": str(RETRY_AFTER_S)} if status == 503 else {}
    return web.json_response(body, status=status, headers=headers)


async def _show_file(request: web.Request) -> web.Response:
    name, content_type = FILES[request.path.removeprefix("/")]
    text = (resources.files("edge.web") / "static" / name).read_text(encoding="utf-8")
    return web.Response(text=text, content_type=content_type)


async def _list_agents(request: web.Request) -> web.Response:
    return web.json_response([asdict(agent) for agent in request.app[CALLS].agents])


async def _start_call(request: web.Request) -> web.Response:
    try:
        body = await request.json()
        agent, offer_sdp = body["agent"], body["sdp"]
    except (ValueError, KeyError, TypeError) as error:
        raise MalformedRequestError("the body must be JSON with `agent` and `sdp`") from error
    if not isinstance(agent, str) or not isinstance(offer_sdp, str):
        raise MalformedRequestError("`agent` and `sdp` must be strings")
    started = await request.app[CALLS].start(agent, offer_sdp)
    body = {"call_id": started.call_id, "token": started.token, "sdp": started.answer_sdp}
    return web.json_response(body, status=201)


async def _watch_call(request: web.Request) -> web.StreamResponse:
    call_id = request.match_info["call_id"]
    offered = [name.strip() for name in request.headers.get("Sec-WebSocket-Protocol", "").split(",")]
    token = next((name for name in offered if name != EVENTS_PROTOCOL), "")
    calls = request.app[CALLS]
    events = calls.events(call_id, token)
    socket = web.WebSocketResponse(protocols=(EVENTS_PROTOCOL,), heartbeat=HEARTBEAT_S, max_msg_size=1024)
    await socket.prepare(request)
    with events.subscribe() as subscription:
        async with asyncio.TaskGroup() as group:
            sender = group.create_task(_send_events(socket, subscription), name=f"call:{call_id}:events")
            async for message in socket:
                if message.type is WSMsgType.TEXT and _is_hang_up(message.data):
                    calls.hang_up(call_id, token)
            sender.cancel()
    return socket


async def _send_events(socket: web.WebSocketResponse, subscription: Subscription) -> None:
    while True:
        event = await subscription.next()
        try:
            await socket.send_str(encode_event(event))
        except ConnectionError:
            return
        if isinstance(event, CallEnded):
            await socket.close()
            return


def _is_hang_up(text: str) -> bool:
    try:
        message = json.loads(text)
    except ValueError:
        return False
    return isinstance(message, dict) and message.get("type") == "hang_up"


async def _cancel_calls(app: web.Application) -> None:
    app[CALLS].cancel_all()
