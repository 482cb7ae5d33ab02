"""One inference service as a client sees it: its channel, whether it lives, and a breaker for each kind of work.

Nothing is polled while all is well. gRPC tells when a connection is made or lost (and makes a lost one anew); HTTP/2
pings tell of a sibling whose machine is gone. A process that is stopped or stuck keeps its connection: when a request
to it is slow, one Health request is sent, and if that has no answer either within ALIVE_WITHIN_S the endpoint counts as
hung until the answer comes.
"""

import asyncio
from collections.abc import Callable
from pathlib import Path
from typing import Protocol, Self, cast

import grpc
import structlog

from contract import inference_pb2 as pb
from contract import inference_pb2_grpc as pb_grpc
from edge.inference.breaker import Breaker
from edge.inference.hedging import Work
from edge.inference.identity import Identity

LOCAL = "local"
RECONNECT_MS = 100
# Its event loop answers in a millisecond; this much is left for a machine without a free core.
ALIVE_WITHIN_S = 0.25
# A Health request without an answer is sent again this often.
ASK_AGAIN_S = 10.0
WATCH_ENDS_WITHIN_S = 1.0
MAX_MESSAGE_BYTES = 8 * 1024 * 1024
_OPTIONS = (
    # Channels of one process share connections otherwise, and with them the backoff of a socket that is gone.
    ("grpc.use_local_subchannel_pool", 1),
    ("grpc.max_receive_message_length", MAX_MESSAGE_BYTES),
    ("grpc.enable_http_proxy", 0),
)
_LOCAL_OPTIONS = (
    *_OPTIONS,
    ("grpc.initial_reconnect_backoff_ms", RECONNECT_MS),
    ("grpc.min_reconnect_backoff_ms", RECONNECT_MS),
    ("grpc.max_reconnect_backoff_ms", RECONNECT_MS),
)
_SIBLING_OPTIONS = (
    *_OPTIONS,
    ("grpc.initial_reconnect_backoff_ms", 200),
    # A machine that is gone answers no SYN.
    ("grpc.min_reconnect_backoff_ms", 1_000),
    ("grpc.max_reconnect_backoff_ms", 2_000),
    ("grpc.keepalive_time_ms", 5_000),
    ("grpc.keepalive_timeout_ms", 1_500),
    ("grpc.keepalive_permit_without_calls", 1),
    ("grpc.http2.max_pings_without_data", 0),
)

log = structlog.get_logger(__name__)


class Channel(Protocol):
    """What we use of grpc.aio.Channel, which has no types of its own."""

    def get_state(self, try_to_connect: bool = False) -> grpc.ChannelConnectivity:  # noqa: FBT001, FBT002 - gRPC's
        """Whether it is connected."""

    async def wait_for_state_change(self, last_observed_state: grpc.ChannelConnectivity) -> None:
        """Return once it is in another state."""

    async def close(self, grace: float | None = None) -> None:
        """End it and its calls, those that run after `grace` seconds."""


class Endpoint:
    """See the module. `came_back` is called when a connection was made."""

    def __init__(self, name: str, channel: Channel, came_back: Callable[[], None] = lambda: None) -> None:
        self.name = name
        self.stub = cast("pb_grpc.InferenceAsyncStub", pb_grpc.InferenceStub(channel))
        self.breakers = {work: Breaker() for work in Work}
        self._channel = channel
        self._came_back = came_back
        self._is_stopped = False
        self._watch: asyncio.Task[None] | None = None
        self._check: asyncio.Task[None] | None = None
        self._hung: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    @classmethod
    def local(cls, socket: Path, came_back: Callable[[], None]) -> Self:
        """The service of this node."""
        return cls(LOCAL, grpc.aio.insecure_channel(f"unix:{socket.absolute()}", options=_LOCAL_OPTIONS), came_back)

    @classmethod
    def sibling(cls, name: str, address: str, server_name: str, identity: Identity) -> Self:
        """The service of another node, which has to prove that it is `server_name`."""
        credentials = grpc.ssl_channel_credentials(identity.authority, identity.key, identity.certificate)
        options = (*_SIBLING_OPTIONS, ("grpc.ssl_target_name_override", server_name))
        return cls(name, grpc.aio.secure_channel(address, credentials, options=options))

    @property
    def is_local(self) -> bool:
        """Whether no other machine is involved."""
        return self.name == LOCAL

    @property
    def is_connected(self) -> bool:
        """Whether there is a connection, as far as this machine knows."""
        return self._channel.get_state() is grpc.ChannelConnectivity.READY

    @property
    def is_hung(self) -> bool:
        """Whether it keeps its connection and answers nothing."""
        return self._hung.done()

    @property
    def hung(self) -> asyncio.Future[None]:
        """Done once it counts as hung; another one after that."""
        return self._hung

    def is_usable(self, work: Work, now_s: float) -> bool:
        """Whether a request has good prospects."""
        return self.is_connected and not self.is_hung and self.breakers[work].allows(now_s)

    def start(self, tasks: asyncio.TaskGroup) -> None:
        """Connect, and keep connected."""
        self._tasks = tasks
        self._watch = tasks.create_task(self._watch_connection(), name=f"inference:{self.name}")

    @property
    def is_stopped(self) -> bool:
        """Whether it may be asked no more: gRPC takes a call on a closed channel for a mistake."""
        return self._is_stopped

    async def stop(self, grace_s: float = 0.0) -> None:
        """Close the connection; calls that run any longer fail."""
        self._is_stopped = True
        if self._check is not None:
            self._check.cancel()
        await self._channel.close(grace_s)
        if self._watch is not None:
            # It sees the end of the channel; one that was cancelled would leave gRPC with an event for nobody.
            await asyncio.wait({self._watch}, timeout=WATCH_ENDS_WITHIN_S)
            self._watch.cancel()

    def suspect(self) -> None:
        """A request is slow: find out whether the service lives."""
        if not self._is_stopped and (self._check is None or self._check.done()):
            self._check = self._tasks.create_task(self._see_whether_it_lives(), name=f"inference:{self.name}:health")

    async def _watch_connection(self) -> None:
        was_connected = False
        while not self._is_stopped:
            state = self._channel.get_state(try_to_connect=True)
            is_connected = state is grpc.ChannelConnectivity.READY
            if is_connected and not was_connected:
                self._connected()
            if was_connected and not is_connected:
                log.warning("inference_connection_lost", endpoint=self.name)
            was_connected = is_connected
            await self._channel.wait_for_state_change(state)

    def _connected(self) -> None:
        log.info("inference_connected", endpoint=self.name)
        for breaker in self.breakers.values():
            breaker.reset()
        self._lives()
        self._came_back()

    async def _see_whether_it_lives(self) -> None:
        alarm = asyncio.get_running_loop().call_later(ALIVE_WITHIN_S, self._hangs)
        try:
            while not await self._answers():
                pass
        finally:
            alarm.cancel()
        self._lives()

    async def _answers(self) -> bool:
        try:
            await self.stub.Health(pb.HealthRequest(), timeout=ASK_AGAIN_S)
        except grpc.aio.AioRpcError as error:
            # Who is gone does not hang: the state of the channel says so.
            return error.code() is not grpc.StatusCode.DEADLINE_EXCEEDED
        return True

    def _hangs(self) -> None:
        if not self._hung.done():
            log.warning("inference_hangs", endpoint=self.name)
            self._hung.set_result(None)

    def _lives(self) -> None:
        if self._hung.done():
            log.info("inference_hangs_no_more", endpoint=self.name)
            self._hung = asyncio.get_running_loop().create_future()
