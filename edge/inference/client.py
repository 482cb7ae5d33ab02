"""The call worker's side of the inference service: implements Transcriber, Synthesizer, Embedder and Generator.

The service of the node is asked over a unix socket; when it is gone, hangs or is slow, that of a sibling over mutual
TLS (`edge.inference.racing` has the rules). What is retried or asked twice has no effect but its answer: recognition,
vectors, generated text until its first piece, and speech from the first clause that did not arrive. A service that is
down is reported at once instead of waited for, and found again within RECONNECT_MS of its return. Cancelling the task
that waits cancels the work.
"""

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import NoReturn, Self, TypeVar, cast

import grpc
import numpy as np
from numpy.typing import NDArray

from contract import inference_pb2 as pb
from edge.call.ports import ChatMessage, Priority, Purpose, Transcript
from edge.inference.client_settings import SiblingSection
from edge.inference.endpoint import Endpoint
from edge.inference.errors import InferenceLateError, InferenceUnavailableError
from edge.inference.flow import Flow, Piece, Read, StreamCall
from edge.inference.hedging import Work
from edge.inference.neighbourhood import Neighbourhood, region_of
from edge.inference.racing import Candidate, Race, Standing, UnsuitedAnswerError
from edge.inference.route_metrics import RouteCounts

# A stream that has begun may go on for as long as its text takes to speak or write; each piece has this time.
STALL_S = 3.0
# After the last clause nothing is missing but the end of the stream.
ENDED_WITHIN_S = 0.3
HEALTH_TIMEOUT_S = 1.0
_PRIORITIES = {
    Priority.LIVE: pb.PRIORITY_LIVE,
    Priority.SPECULATIVE: pb.PRIORITY_SPECULATIVE,
    Priority.SHADOW: pb.PRIORITY_SHADOW,
}
_ROLES = {"caller": pb.ChatTurn.ROLE_CALLER, "agent": pb.ChatTurn.ROLE_AGENT}
_RESTART_HINT = "systemctl status inference"


Answer = TypeVar("Answer")


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelLoad:
    """The load of one model of the service."""

    kind: str
    name: str
    queued: int
    running: int
    waited_p95_s: float


@dataclass(slots=True, kw_only=True)
class _Received:
    """How far speech has come. Of a service that does not number its clauses: nowhere."""

    clause: int = 0
    clauses: int = 0

    @property
    def is_complete(self) -> bool:
        return 0 < self.clauses == self.clause

    def take(self, chunk: pb.AudioChunk) -> None:
        self.clause, self.clauses = chunk.clause + 1, chunk.clauses

    def check(self, chunk: pb.AudioChunk | None) -> None:
        """Raises UnsuitedAnswerError for what does not go on where the last chunk ended."""
        if self.clause and (chunk is None or (chunk.clause, chunk.clauses) != (self.clause, self.clauses)):
            raise UnsuitedAnswerError("the rest of a text was divided otherwise than its beginning")


class InferenceClient:
    """An async context manager; see the module. Without `siblings` only the service of this node is asked."""

    def __init__(self, socket_path: Path, *, siblings: SiblingSection | None = None) -> None:
        self._socket_path = socket_path
        self._siblings = siblings
        self._standing = Standing()
        self._tasks = asyncio.TaskGroup()
        self._asking: asyncio.Task[None] | None = None
        # Of this node, as far as its service has told: siblings must answer with the same.
        self._voice = ""
        self._embedding = ""

    async def __aenter__(self) -> Self:
        region = region_of(self._siblings)
        await self._tasks.__aenter__()
        self._around = Neighbourhood(self._socket_path, region, self._tasks, self._came_back)
        self._around.start()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._asking is not None:
            self._asking.cancel()
        await self._around.stop()
        # Nothing of the block's: its errors are not to come wrapped in a group.
        await self._tasks.__aexit__(None, None, None)

    def route_counts(self) -> RouteCounts:
        """Who answered, and how it is with each endpoint."""
        return RouteCounts.of(self._standing, self._around.endpoints())

    async def transcribe(self, pcm: bytes, purpose: Purpose, *, language: str, hints: Sequence[str]) -> Transcript:
        """See `Transcriber`."""

        async def ask(endpoint: Endpoint, left_s: float) -> pb.RecogniseReply:
            context = _context(purpose, left_s)
            request = pb.RecogniseRequest(context=context, pcm=pcm, language=language, hints=hints)
            reply: pb.RecogniseReply = await endpoint.stub.Recognise(request, timeout=left_s)
            return reply

        reply = await self._asked(Work.RECOGNISE, purpose, ask)
        return Transcript(
            text=reply.text,
            no_speech_probability=reply.no_speech_probability,
            average_log_probability=reply.average_log_probability,
            queued_s=reply.timing.queued_us / 1e6,
            computed_s=reply.timing.computed_us / 1e6,
        )

    async def synthesize(self, text: str, purpose: Purpose, *, voice: str) -> AsyncGenerator[bytes, None]:
        """See `Synthesizer`; the first chunk is due within the budget, each further one within STALL_S.

        A chunk is a clause. When the stream breaks, the clauses that are missing come from another endpoint.
        """
        received = _Received()

        async def start(endpoint: Endpoint, left_s: float) -> Read[pb.AudioChunk]:
            request = pb.SynthesiseRequest(
                context=_context(purpose, left_s),
                text=text,
                voice=voice or self._voice,
                first_clause=received.clause,
            )
            flow = Flow(endpoint, cast("StreamCall", endpoint.stub.Synthesise(request)), pb.AudioChunk)
            read = await flow.next()
            try:
                received.check(read.piece)
            except UnsuitedAnswerError:
                flow.close()
                raise
            return read

        flow: Flow[pb.AudioChunk] | None = None
        try:
            while not received.is_complete:
                can_start = flow is None or received.clauses > 0
                within_s = purpose.budget_s if flow is None else STALL_S
                read = await self._read(Work.SYNTHESISE, purpose, flow, start if can_start else None, within_s)
                flow = read.flow
                if read.piece is None:
                    return
                received.take(read.piece)
                yield read.piece.pcm
            await _ended(flow)
        finally:
            if flow is not None:
                flow.close()

    async def generate(
        self, system: str, messages: Sequence[ChatMessage], purpose: Purpose, *, max_tokens: int
    ) -> AsyncGenerator[str, None]:
        """See `Generator`; deadlines as in `synthesize`. Once a piece has come, only its endpoint can go on."""
        turns = [pb.ChatTurn(role=_ROLES[message.speaker], text=message.text) for message in messages]

        async def start(endpoint: Endpoint, left_s: float) -> Read[pb.TextChunk]:
            context = _context(purpose, left_s)
            request = pb.GenerateRequest(context=context, system=system, turns=turns, max_tokens=max_tokens)
            return await Flow(endpoint, cast("StreamCall", endpoint.stub.Generate(request)), pb.TextChunk).next()

        flow: Flow[pb.TextChunk] | None = None
        try:
            while True:
                within_s = purpose.budget_s if flow is None else STALL_S
                read = await self._read(Work.GENERATE, purpose, flow, start if flow is None else None, within_s)
                flow = read.flow
                if read.piece is None:
                    return
                yield read.piece.text
        finally:
            if flow is not None:
                flow.close()

    async def embed(self, texts: Sequence[str], purpose: Purpose) -> NDArray[np.float32]:
        """See `Embedder`."""

        async def ask(endpoint: Endpoint, left_s: float) -> pb.EmbedReply:
            request = pb.EmbedRequest(context=_context(purpose, left_s), texts=texts)
            reply: pb.EmbedReply = await endpoint.stub.Embed(request, timeout=left_s)
            if endpoint.is_local:
                self._embedding = reply.model
            elif reply.model != self._embedding:
                raise UnsuitedAnswerError(f"{endpoint.name} has vectors of {reply.model}, not of {self._embedding}")
            return reply

        reply = await self._asked(Work.EMBED, purpose, ask)
        return np.array([vector.values for vector in reply.vectors], dtype=np.float32)

    async def health(self) -> list[ModelLoad]:
        """Return the load of each model of this node. Raises InferenceUnavailableError or InferenceLateError."""
        with _mapping_errors():
            reply = await self._around.local.stub.Health(pb.HealthRequest(), timeout=HEALTH_TIMEOUT_S)
        self._learn(reply)
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
        """Return once the service of this node answers. Raises InferenceLateError."""
        try:
            async with asyncio.timeout(timeout_s):
                with _mapping_errors():
                    self._learn(await self._around.local.stub.Health(pb.HealthRequest(), wait_for_ready=True))
        except TimeoutError as error:
            message = f"no inference service at {self._socket_path} within {timeout_s} s"
            raise InferenceLateError(message, hint=_RESTART_HINT) from error

    async def _asked(self, work: Work, purpose: Purpose, ask: Callable[[Endpoint, float], Awaitable[Answer]]) -> Answer:
        candidates = [Candidate(endpoint, partial(ask, endpoint)) for endpoint in self._candidates(work, purpose)]
        with _mapping_errors():
            return await Race[Answer](self._standing, work, purpose.budget_s, _drop, is_first=True).run(candidates)

    async def _read(
        self,
        work: Work,
        purpose: Purpose,
        flow: Flow[Piece] | None,
        start: Callable[[Endpoint, float], Awaitable[Read[Piece]]] | None,
        within_s: float,
    ) -> Read[Piece]:
        """The next piece: of the stream that flows, or of one that is started elsewhere if that may be."""
        candidates = [] if flow is None else [Candidate(flow.endpoint, flow.next)]
        if start is not None:
            candidates += [
                Candidate(endpoint, partial(start, endpoint))
                for endpoint in self._candidates(work, purpose)
                if flow is None or endpoint is not flow.endpoint
            ]
        with _mapping_errors():
            race = Race[Read[Piece]](self._standing, work, within_s, Read.discard, is_first=flow is None)
            return await race.run(candidates)

    def _candidates(self, work: Work, purpose: Purpose) -> Sequence[Endpoint]:
        # Nobody waits for SHADOW work: it is done here, later.
        return self._around.candidates(work, may_leave=purpose.priority is not Priority.SHADOW)

    def _came_back(self) -> None:
        self._asking = self._tasks.create_task(self._ask_models(), name="inference:models")

    async def _ask_models(self) -> None:
        with suppress(InferenceUnavailableError, InferenceLateError):
            # It went again already; the next connection asks again.
            await self.health()

    def _learn(self, reply: pb.HealthReply) -> None:
        names = {model.kind: model.name for model in reversed(reply.models)}
        self._voice = names.get("tts", "")
        self._embedding = names.get("embedding", "")


def _context(purpose: Purpose, left_s: float) -> pb.Context:
    return pb.Context(
        tenant=purpose.tenant,
        call_id=purpose.call_id,
        priority=_PRIORITIES[purpose.priority],
        budget_ms=max(1, int(left_s * 1000)),
    )


def _drop(_: object) -> None:
    """An answer that is no stream needs no end."""


async def _ended(flow: Flow[pb.AudioChunk] | None) -> None:
    """All has come; let the service end the stream, so that it does not count as given up."""
    if flow is not None:
        with suppress(grpc.aio.AioRpcError, TimeoutError):
            async with asyncio.timeout(ENDED_WITHIN_S):
                await flow.next()


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
