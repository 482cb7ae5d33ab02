"""The gRPC service: turns messages into work for the gates, and errors into status codes, once, here."""

from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import aclosing, asynccontextmanager
from typing import NoReturn, Protocol

import grpc
import structlog

from contract import inference_pb2 as pb
from contract import inference_pb2_grpc as pb_grpc
from edge.inference.errors import (
    InferenceError,
    InvalidWorkError,
    QueueOverflowError,
    WorkExpiredError,
)
from edge.inference.fair_queue import Rank
from edge.inference.gate import Claim, Turn
from edge.inference.llama_generator import ChatTurn, GenerationOrder
from edge.inference.models import Models
from edge.inference.piper_voice import clause_count
from edge.inference.recognition import SAMPLE_RATE_HZ, RecognitionOrder, recognise, samples_of

# One utterance: Whisper hears 30 s at most.
MAX_PCM_BYTES = 2 * SAMPLE_RATE_HZ * 30
MAX_TEXT_CHARS = 4_000
MAX_TEXTS = 512
DEFAULT_TOKENS = 128
# Room for MAX_TEXTS vectors of 1,024 floats.
MAX_MESSAGE_BYTES = 8 * 1024 * 1024
# Who sends no budget gets this: no answer on the telephone is of use later.
DEFAULT_BUDGET_S = 5.0
# How urgent what a worker of this node asks for is, and what one of a sibling's. Who says nothing waits on the line.
Ranks = Mapping[int, Rank]
OWN_RANKS: Ranks = {
    pb.PRIORITY_UNSPECIFIED: Rank.LIVE,
    pb.PRIORITY_LIVE: Rank.LIVE,
    pb.PRIORITY_SPECULATIVE: Rank.SPECULATIVE,
    pb.PRIORITY_SHADOW: Rank.SHADOW,
}
SIBLING_RANKS: Ranks = {
    pb.PRIORITY_UNSPECIFIED: Rank.SIBLING_LIVE,
    pb.PRIORITY_LIVE: Rank.SIBLING_LIVE,
    pb.PRIORITY_SPECULATIVE: Rank.SIBLING_SPECULATIVE,
    pb.PRIORITY_SHADOW: Rank.SHADOW,
}
# How a model's time is shared: rough costs, one unit per model (seconds of audio, characters, tokens, texts).
_ROLES = {pb.ChatTurn.ROLE_CALLER: "user", pb.ChatTurn.ROLE_AGENT: "assistant"}
_STATUS = {
    QueueOverflowError.code: grpc.StatusCode.RESOURCE_EXHAUSTED,
    WorkExpiredError.code: grpc.StatusCode.DEADLINE_EXCEEDED,
    InvalidWorkError.code: grpc.StatusCode.INVALID_ARGUMENT,
}


class Context(Protocol):
    """What we use of grpc.aio.ServicerContext, which has no types of its own."""

    async def abort(
        self, code: grpc.StatusCode, details: str, trailing_metadata: tuple[tuple[str, str], ...]
    ) -> NoReturn:
        """End the RPC with an error."""


log = structlog.get_logger()


def _microseconds(seconds: float) -> int:
    return int(seconds * 1e6)


class InferenceService(pb_grpc.InferenceServicer):
    """One per server of a process. `clock` is monotonic seconds."""

    def __init__(self, models: Models, clock: Callable[[], float], ranks: Ranks = OWN_RANKS) -> None:
        self._models = models
        self._clock = clock
        self._ranks = ranks

    def _claim(self, context: pb.Context) -> Claim:
        return Claim(
            tenant=context.tenant,
            rank=self._ranks.get(context.priority, self._ranks[pb.PRIORITY_LIVE]),
            budget_s=context.budget_ms / 1000 or DEFAULT_BUDGET_S,
        )

    def _timing(self, turn: Turn, started_s: float) -> pb.Timing:
        computed_s = self._clock() - started_s - turn.queued_s
        return pb.Timing(queued_us=_microseconds(turn.queued_s), computed_us=_microseconds(max(0.0, computed_s)))

    async def Recognise(  # noqa: N802 - named by the contract
        self, request: pb.RecogniseRequest, context: Context
    ) -> pb.RecogniseReply:
        async with _mapping_errors(context):
            if not request.pcm or len(request.pcm) % 2 or len(request.pcm) > MAX_PCM_BYTES:
                raise InvalidWorkError(f"{len(request.pcm)} bytes are no utterance of at most 30 s of int16 at 16 kHz")
            language = request.language or "en"
            model = self._models.recogniser(language)
            samples = samples_of(request.pcm)
            hints = tuple(request.hints)
            started_s = self._clock()
            found, turn = await model.gate.run(
                self._claim(request.context),
                len(samples) / SAMPLE_RATE_HZ + 1.0,
                lambda turn: recognise(
                    model.engine,
                    RecognitionOrder(samples=samples, language=language, hints=hints, cancelled=turn.cancelled),
                ),
            )
            return pb.RecogniseReply(
                text=found.text,
                no_speech_probability=found.no_speech_probability,
                average_log_probability=found.average_log_probability,
                timing=self._timing(turn, started_s),
            )

    async def Synthesise(  # noqa: N802 - named by the contract
        self, request: pb.SynthesiseRequest, context: Context
    ) -> AsyncIterator[pb.AudioChunk]:
        async with _mapping_errors(context):
            if not request.text.strip() or len(request.text) > MAX_TEXT_CHARS:
                raise InvalidWorkError(f"{len(request.text)} characters are no text of 1 to {MAX_TEXT_CHARS}")
            model = self._models.voice(request.voice)
            clauses = clause_count(request.text)

            def work(turn: Turn, emit: Callable[[bytes], None]) -> None:
                for pcm in model.voice.synthesize(request.text, turn.cancelled, first_clause=request.first_clause):
                    emit(pcm)

            started_s = self._clock()
            clause = request.first_clause
            stream = model.gate.stream(self._claim(request.context), float(len(request.text)), work)
            async with aclosing(stream):
                async for pcm, turn in stream:
                    timing = self._timing(turn, started_s) if clause == request.first_clause else None
                    yield pb.AudioChunk(pcm=pcm, timing=timing, clause=clause, clauses=clauses)
                    clause += 1

    async def Generate(  # noqa: N802 - named by the contract
        self, request: pb.GenerateRequest, context: Context
    ) -> AsyncIterator[pb.TextChunk]:
        async with _mapping_errors(context):
            model = self._models.generator
            if model is None:
                raise InvalidWorkError("this node has no language model")
            turns = [ChatTurn(role=_ROLES.get(turn.role, "user"), text=turn.text) for turn in request.turns]
            max_tokens = request.max_tokens or DEFAULT_TOKENS

            def work(turn: Turn, emit: Callable[[str], None]) -> None:
                order = GenerationOrder(
                    system=request.system,
                    turns=turns,
                    max_tokens=max_tokens,
                    temperature=request.temperature,
                    cancelled=turn.cancelled,
                )
                model.generator.generate(order, emit)

            started_s = self._clock()
            is_first = True
            stream = model.gate.stream(self._claim(request.context), float(max_tokens), work)
            async with aclosing(stream):
                async for text, turn in stream:
                    yield pb.TextChunk(text=text, timing=self._timing(turn, started_s) if is_first else None)
                    is_first = False

    async def Embed(  # noqa: N802 - named by the contract
        self, request: pb.EmbedRequest, context: Context
    ) -> pb.EmbedReply:
        async with _mapping_errors(context):
            model = self._models.encoder
            if model is None:
                raise InvalidWorkError("this node has no sentence encoder")
            texts = list(request.texts)
            if not texts or len(texts) > MAX_TEXTS:
                raise InvalidWorkError(f"{len(texts)} texts are not 1 to {MAX_TEXTS}")
            started_s = self._clock()
            vectors, turn = await model.gate.run(
                self._claim(request.context), float(len(texts)), lambda _: model.encoder.embed(texts)
            )
            return pb.EmbedReply(
                vectors=[pb.Vector(values=vector.tolist()) for vector in vectors],
                model=model.name,
                timing=self._timing(turn, started_s),
            )

    async def Health(  # noqa: N802 - named by the contract
        self,
        request: pb.HealthRequest,  # noqa: ARG002 - it has no fields
        context: Context,  # noqa: ARG002
    ) -> pb.HealthReply:
        reply = pb.HealthReply(ready=True)
        for kind, name, gate in self._models.gates():
            health = gate.health()
            reply.models.append(
                pb.ModelHealth(
                    kind=kind,
                    name=name,
                    queued=health.queued,
                    running=health.running,
                    waited_p95_us=_microseconds(health.waited_p95_s),
                )
            )
        return reply


@asynccontextmanager
async def _mapping_errors(context: Context) -> AsyncIterator[None]:
    try:
        yield
    except InferenceError as error:
        await _abort(context, _STATUS.get(error.code, grpc.StatusCode.INTERNAL), error.code, str(error))
    except (RuntimeError, ValueError, OSError, MemoryError) as error:
        # What CTranslate2, onnxruntime and llama.cpp raise when an input or the machine fails them.
        log.exception("inference_failed")
        await _abort(context, grpc.StatusCode.INTERNAL, "inference_failed", f"{type(error).__name__}: {error}")


async def _abort(context: Context, status: grpc.StatusCode, code: str, message: str) -> NoReturn:
    await context.abort(status, message, trailing_metadata=(("borough-code", code),))
