"""A thin client of Asterisk's REST interface: the operations we use, each with a deadline and a typed answer.

Requests share a few kept-alive connections. Events come over a websocket of their own (edge.telephony.ari_listener):
media sockets are never shared with either.
"""

import errno
import json
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from types import TracebackType
from typing import Self
from urllib.parse import quote

import aiohttp

from edge.telephony.ari_events import EVENT_TYPES, Channel, as_object, as_text, as_texts, parse_channel
from edge.telephony.errors import (
    AriRefusedError,
    AriRequestError,
    AriUnavailableError,
    ChannelGoneError,
    MediaLegError,
)

# Loopback requests take 1 to 3 ms; 100 times a loaded machine's worst is a dead Asterisk.
REQUEST_TIMEOUT_S = 5.0
CONNECT_TIMEOUT_S = 2.0
# Below Asterisk's session_keep_alive, so that we never write into a connection that it is closing.
KEEP_ALIVE_S = 60.0
MAX_CONNECTIONS = 32
HEARTBEAT_S = 5.0
# Asterisk answers 409 for a channel that is in no Stasis app any more and 412 for one in a wrong state; addChannel has
# codes of its own for the same.
_GONE = frozenset({404, 409, 412})
_GONE_FROM_BRIDGE = frozenset({400, 404, 409, 422})

MEDIA_FORMAT = "slin16"


@dataclass(frozen=True, slots=True, kw_only=True)
class AriAddress:
    """Where ARI is and who we are there. `url` ends in /ari."""

    url: str
    user: str
    password: str = field(repr=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class Origination:
    """One outgoing channel. It enters `app` when answered, or the dialplan when `context` is given."""

    endpoint: str
    channel_id: str
    timeout_s: int
    caller_number: str = ""
    app: str = ""
    arguments: Sequence[str] = ()
    context: str = ""
    extension: str = ""
    variables: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Application:
    """A registered Stasis app and what it is subscribed to."""

    name: str
    channel_ids: tuple[str, ...]
    bridge_ids: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Bridge:
    """A bridge and who is in it."""

    bridge_id: str
    channel_ids: tuple[str, ...]


class AriClient:
    """Async context manager. Every method raises AriUnavailableError, ChannelGoneError or AriRequestError."""

    def __init__(self, address: AriAddress) -> None:
        self._address = address
        self._session: aiohttp.ClientSession | None = None

    async def __aenter__(self) -> Self:
        self._session = aiohttp.ClientSession(
            headers={"Authorization": aiohttp.encode_basic_auth(self._address.user, self._address.password)},
            connector=aiohttp.TCPConnector(limit=MAX_CONNECTIONS, keepalive_timeout=KEEP_ALIVE_S),
            timeout=aiohttp.ClientTimeout(total=REQUEST_TIMEOUT_S, connect=CONNECT_TIMEOUT_S),
        )
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._session is not None:
            await self._session.close()
            self._session = None

    async def answer(self, channel_id: str) -> None:
        """Answer an incoming channel."""
        await self._request("POST", f"/channels/{_part(channel_id)}/answer")

    async def hang_up(self, channel_id: str, cause: int) -> None:
        """End a channel with a Q.850 cause."""
        await self._request("DELETE", f"/channels/{_part(channel_id)}", {"reason_code": str(cause)})

    async def hang_up_if_there(self, channel_id: str, cause: int) -> None:
        """End a channel unless it is gone already."""
        try:
            await self.hang_up(channel_id, cause)
        except ChannelGoneError:
            return

    async def continue_in_dialplan(self, channel_id: str) -> None:
        """Give a channel back to the dialplan, which asks the next worker."""
        await self._request("POST", f"/channels/{_part(channel_id)}/continue")

    async def move(self, channel_id: str, app: str, arguments: Sequence[str] = ()) -> None:
        """Give a channel to another Stasis app; it gets a StasisStart."""
        query = {"app": app, "appArgs": ",".join(arguments)}
        await self._request("POST", f"/channels/{_part(channel_id)}/move", query)

    async def originate(self, origination: Origination) -> None:
        """Dial out; returns when Asterisk began to, not when somebody answered."""
        query = {"endpoint": origination.endpoint, "timeout": str(origination.timeout_s)}
        query["channelId"] = origination.channel_id
        if origination.caller_number:
            query["callerId"] = origination.caller_number
        if origination.context:
            query |= {"context": origination.context, "extension": origination.extension, "priority": "1"}
        else:
            query |= {"app": origination.app, "appArgs": ",".join(origination.arguments)}
        await self._request("POST", "/channels", query, {"variables": dict(origination.variables)})

    async def create_media_channel(self, channel_id: str, app: str) -> str:
        """Create a channel whose audio is a websocket, and return that websocket's connection id."""
        query = {
            "channelId": channel_id,
            "app": app,
            "external_host": "INCOMING",
            "connection_type": "server",
            "transport": "websocket",
            "encapsulation": "none",
            "format": MEDIA_FORMAT,
            "transport_data": "f(json)",
        }
        channel = parse_channel(await self._request("POST", "/channels/externalMedia", query))
        connection_id = channel.variables.get("MEDIA_WEBSOCKET_CONNECTION_ID")
        if not connection_id:
            raise MediaLegError(f"the media channel {channel_id} has no websocket")
        return connection_id

    async def create_bridge(self, bridge_id: str) -> None:
        """Create a mixing bridge."""
        await self._request("POST", f"/bridges/{_part(bridge_id)}", {"type": "mixing"})

    async def destroy_bridge_if_there(self, bridge_id: str) -> None:
        """Destroy a bridge unless it is gone already; its channels stay."""
        try:
            await self._request("DELETE", f"/bridges/{_part(bridge_id)}")
        except ChannelGoneError:
            return

    async def add_to_bridge(self, bridge_id: str, *channel_ids: str) -> None:
        """Put channels into a bridge."""
        path = f"/bridges/{_part(bridge_id)}/addChannel"
        await self._request("POST", path, {"channel": ",".join(channel_ids)}, gone=_GONE_FROM_BRIDGE)

    async def remove_from_bridge(self, bridge_id: str, channel_id: str) -> None:
        """Take a channel out of a bridge."""
        path = f"/bridges/{_part(bridge_id)}/removeChannel"
        await self._request("POST", path, {"channel": channel_id}, gone=_GONE_FROM_BRIDGE)

    async def channels(self) -> list[Channel]:
        """All channels of this Asterisk."""
        return [parse_channel(each) for each in _as_list(await self._request("GET", "/channels"))]

    async def bridges(self) -> list[Bridge]:
        """All bridges of this Asterisk with who is in them."""
        found = [as_object(each) for each in _as_list(await self._request("GET", "/bridges"))]
        return [Bridge(bridge_id=as_text(each, "id"), channel_ids=tuple(as_texts(each["channels"]))) for each in found]

    async def bridge_ids(self) -> list[str]:
        """All bridges of this Asterisk."""
        return [as_text(as_object(each), "id") for each in _as_list(await self._request("GET", "/bridges"))]

    async def has_channel(self, channel_id: str) -> bool:
        """Say whether a channel exists."""
        try:
            await self._request("GET", f"/channels/{_part(channel_id)}")
        except ChannelGoneError:
            return False
        return True

    async def application(self, app: str) -> Application | None:
        """Return a Stasis app as Asterisk knows it, None when it is not registered."""
        try:
            return _application(await self._request("GET", f"/applications/{_part(app)}"))
        except ChannelGoneError:
            return None

    async def applications(self) -> list[Application]:
        """All Stasis apps that are registered, or still have channels."""
        return [_application(each) for each in _as_list(await self._request("GET", "/applications"))]

    async def subscribe(self, app: str, channel_id: str) -> None:
        """Send the app the events of a channel that is not in it (yet)."""
        query = {"eventSource": f"channel:{channel_id}"}
        await self._request("POST", f"/applications/{_part(app)}/subscription", query)

    async def listen_only_to_known_events(self, app: str) -> None:
        """Have Asterisk send the events that `parse_event` knows and no others."""
        allowed = [{"type": kind} for kind in EVENT_TYPES]
        await self._request("PUT", f"/applications/{_part(app)}/eventFilter", {}, {"allowed": allowed})

    @asynccontextmanager
    async def events(self, app: str) -> AsyncIterator[aiohttp.ClientWebSocketResponse]:
        """Register a Stasis app and yield the websocket its events come on."""
        try:
            socket = await self._open().ws_connect(
                f"{self._address.url}/events", params={"app": app, "subscribeAll": "false"}, heartbeat=HEARTBEAT_S
            )
        except (aiohttp.ClientError, TimeoutError, OSError) as error:
            raise _unavailable(f"events of {app}", error) from error
        async with socket:
            yield socket

    @asynccontextmanager
    async def media_socket(self, connection_id: str) -> AsyncIterator[aiohttp.ClientWebSocketResponse]:
        """Yield the websocket of a media channel. It is served beside ARI, not below it."""
        url = f"{self._address.url.removesuffix('/ari')}/media/{_part(connection_id)}"
        try:
            socket = await self._open().ws_connect(url, protocols=("media",), compress=0, max_msg_size=0)
        except (aiohttp.ClientError, TimeoutError, OSError) as error:
            raise MediaLegError(f"media websocket: {error or type(error).__name__}") from error
        async with socket:
            yield socket

    def _open(self) -> aiohttp.ClientSession:
        if self._session is None:
            raise RuntimeError("AriClient is used outside of its context")
        return self._session

    async def _request(
        self,
        method: str,
        path: str,
        query: Mapping[str, str] | None = None,
        body: object = None,
        *,
        gone: frozenset[int] = _GONE,
    ) -> object:
        try:
            async with self._open().request(method, self._address.url + path, params=query, json=body) as answer:
                text = await answer.text()
                status = answer.status
        except (aiohttp.ClientError, TimeoutError, OSError) as error:
            raise _unavailable(f"{method} {path}", error) from error
        if status in gone:
            raise ChannelGoneError(f"{method} {path}", status, text)
        if status >= 400:
            raise AriRequestError(f"{method} {path}", status, text)
        return json.loads(text) if text else None


def _unavailable(what: str, error: Exception) -> AriUnavailableError:
    is_refused = isinstance(error, OSError) and error.errno == errno.ECONNREFUSED
    kind = AriRefusedError if is_refused else AriUnavailableError
    return kind(f"{what}: {error or type(error).__name__}")


def _application(value: object) -> Application:
    found = as_object(value)
    return Application(
        name=as_text(found, "name"),
        channel_ids=tuple(as_texts(found.get("channel_ids"))),
        bridge_ids=tuple(as_texts(found.get("bridge_ids"))),
    )


def _part(text: str) -> str:
    return quote(text, safe="")


def _as_list(value: object) -> list[object]:
    if not isinstance(value, list):
        raise ValueError("expected a JSON list")  # noqa: TRY004 - bad input, not a bug
    return value
