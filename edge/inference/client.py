"""The call worker's side of the inference service: implements Transcriber, Synthesizer, Embedder and Generator.

One channel per worker, over a unix socket. A service that is down is reported at once instead of waited for, and
found again within RECONNECT_MS of its return. Cancelling the task that waits cancels the work.
"""

import asyncio
from collections.abc import AsyncGenerator, Iterator, Sequence
from contextlib import aclosing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import NoReturn, Protocol, Self, TypeVar, cast

import grpc
import numpy as np
from numpy.typing import NDArray

from contract import inference_pb2 as pb
from contract import inference_pb2_grpc as pb_grpc
from edge.call.ports import ChatMessage, Priority, Purpose, Transcript
from edge.inference.errors import InferenceLateError, InferenceUnavailableError

RECONNECT_MS = 100
# A stream that has begun may go on for as long as its text takes to speak or write; each piece has this time.
STALL_S = 3.0
HEALTH_TIMEOUT_S = 1.0
_OPTIONS = (
    ("grpc.initial_reconnect_backoff_ms", RECONNECT_MS),
    ("grpc.min_reconnect_backoff_ms", RECONNECT_MS),
    ("grpc.max_reconnect_backoff_ms", RECONNECT_MS),
    # Channels of one process share connections otherwise, and with them the backoff of a socket that is gone.
    ("grpc.use_local_subchannel_pool", 1),
    ("grpc.max_receive_message_length", 8 * 1024 * 1024),
)
_PRIORITIES = {
    Priority.LIVE: pb.PRIORITY_LIVE,
    Priority.SPECULATIVE: pb.PRIORITY_SPECULATIVE,
    Priority.SHADOW: pb.PRIORITY_SHADOW,
}
_ROLES = {"caller": pb.ChatTurn.ROLE_CALLER, "agent": pb.ChatTurn.ROLE_AGENT}
_RESTART_HINT = "systemctl status inference"


Piece = TypeVar("Piece")


class StreamCall(Protocol):
    """What we use of grpc.aio.UnaryStreamCall, which has no types of its own."""

    async def read(self) -> object:
        """Return the next message, or grpc.aio.EOF."""

    async def code(self) -> grpc.StatusCode:
        """Return the status once the stream has ended."""

    async def details(self) -> str:
        """Return what goes with the status."""

    def cancel(self) -> bool:
        """Tell the service that nobody waits any more."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelLoad:
    """The load of one model of the service."""

    kind: str
    name: str
    queued: int
    running: int
    waited_p95_s: float


class InferenceClient:
    """An async context manager; see the module."""

    def __init__(self, socket_path: Path) -> None:
        self._socket_path = socket_path

    async def __aenter__(self) -> Self:
        self._channel = grpc.aio.insecure_channel(f"unix:{self._socket_path.absolute()}", options=_OPTIONS)
        self._stub = cast("pb_grpc.InferenceAsyncStub", pb_grpc.InferenceStub(self._channel))
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._channel.close()

    async def transcribe(self, pcm: bytes, purpose: Purpose, *, language: str, hints: Sequence[str]) -> Transcript:
        """See `Transcriber`."""
        request = pb.RecogniseRequest(context=_context(purpose), pcm=pcm, language=language, hints=hints)
        with _mapping_errors():
            reply = await self._stub.Recognise(request, timeout=purpose.budget_s)
        return Transcript(
            text=reply.text,
            no_speech_probability=reply.no_speech_probability,
            average_log_probability=reply.average_log_probability,
            queued_s=reply.timing.queued_us / 1e6,
            computed_s=reply.timing.computed_us / 1e6,
        )

    async def synthesize(self, text: str, purpose: Purpose, *, voice: str) -> AsyncGenerator[bytes, None]:
        """See `Synthesizer`; the first chunk is due within the budget, each further one within STALL_S."""
        request = pb.SynthesiseRequest(context=_context(purpose), text=text, voice=voice)
        call = cast("StreamCall", self._stub.Synthesise(request))
        async with aclosing(_pieces(call, pb.AudioChunk, purpose.budget_s)) as chunks:
            async for chunk in chunks:
                yield chunk.pcm

    async def generate(
        self, system: str, messages: Sequence[ChatMessage], purpose: Purpose, *, max_tokens: int
    ) -> AsyncGenerator[str, None]:
        """See `Generator`; deadlines as in `synthesize`."""
        turns = [pb.ChatTurn(role=_ROLES[message.speaker], text=message.text) for message in messages]
        request = pb.GenerateRequest(context=_context(purpose), system=system, turns=turns, max_tokens=max_tokens)
        call = cast("StreamCall", self._stub.Generate(request))
        async with aclosing(_pieces(call, pb.TextChunk, purpose.budget_s)) as chunks:
            async for chunk in chunks:
                yield chunk.text

    async def embed(self, texts: Sequence[str], purpose: Purpose) -> NDArray[np.float32]:
        """See `Embedder`."""
        request = pb.EmbedRequest(context=_context(purpose), texts=texts)
        with _mapping_errors():
            reply = await self._stub.Embed(request, timeout=purpose.budget_s)
        return np.array([vector.values for vector in reply.vectors], dtype=np.float32)

    async def health(self) -> list[ModelLoad]:
        """Return the load of each model. Raises InferenceUnavailableError or InferenceLateError."""
        with _mapping_errors():
            reply = await self._stub.Health(pb.HealthRequest(), timeout=HEALTH_TIMEOUT_S)
        return [
            ModelLoad(
                kind=model.kind,
                name=model.name,
                queued=model.queued,
                running=model.running,
                waited_p95_s=model.waited_p95_us / 1e6,
            )
            for model in reply.models
        ]

    async def wait_until_ready(self, timeout_s: float) -> None:
        """Return once the service answers. Raises InferenceLateError."""
        try:
            async with asyncio.timeout(timeout_s):
                with _mapping_errors():
                    await self._stub.Health(pb.HealthRequest(), wait_for_ready=True)
        except TimeoutError as error:
            message = f"no inference service at {self._socket_path} within {timeout_s} s"
            raise InferenceLateError(message, hint=_RESTART_HINT) from error


def _context(purpose: Purpose) -> pb.Context:
    return pb.Context(
        tenant=purpose.tenant,
        call_id=purpose.call_id,
        priority=_PRIORITIES[purpose.priority],
        budget_ms=max(1, int(purpose.budget_s * 1000)),
    )


async def _pieces(call: StreamCall, kind: type[Piece], first_within_s: float) -> AsyncGenerator[Piece, None]:
    within_s = first_within_s
    try:
        while True:
            with _mapping_errors():
                async with asyncio.timeout(within_s):
                    piece = await call.read()
            if not isinstance(piece, kind):
                # grpc.aio.EOF.
                with _mapping_errors():
                    _check(await call.code(), await call.details())
                return
            yield piece
            within_s = STALL_S
    except TimeoutError as error:
        raise InferenceLateError(f"the inference service sent nothing for {within_s} s") from error
    finally:
        call.cancel()


def _check(code: grpc.StatusCode, details: str) -> None:
    if code is not grpc.StatusCode.OK:
        _refuse(code, details)


@contextmanager
def _mapping_errors() -> Iterator[None]:
    try:
        yield
    except grpc.aio.AioRpcError as error:
        _refuse(error.code(), error.details() or "", error)


def _refuse(code: grpc.StatusCode, details: str, cause: BaseException | None = None) -> NoReturn:
    if code is grpc.StatusCode.DEADLINE_EXCEEDED:
        raise InferenceLateError(details or "the answer came too late") from cause
    hint = _RESTART_HINT if code is grpc.StatusCode.UNAVAILABLE else ""
    raise InferenceUnavailableError(f"{code.name}: {details}", hint=hint) from cause
