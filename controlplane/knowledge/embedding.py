"""Sentence vectors from the hub's inference service, the same model that nodes run."""

from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import Protocol, Self

import grpc
import numpy as np
from numpy.typing import NDArray

from contract import inference_pb2 as pb
from contract.inference_pb2_grpc import InferenceStub
from controlplane.knowledge.errors import EmbeddingUnavailableError

BATCH_TEXTS = 64
# Nobody waits on the telephone for these, but a service that hangs is told apart from one that works.
BUDGET_S = 30.0
_PROBE = "How much does it cost?"


class Embedder(Protocol):
    """Makes vectors; `model` names what makes them, so that those of different models are never mixed."""

    async def model(self) -> str: ...
    async def embed(self, texts: Sequence[str]) -> NDArray[np.float32]: ...


class InferenceEmbedder:
    """Asks the inference service on a unix socket. Without one the hub publishes what is built, but builds nothing."""

    def __init__(self, socket: Path | None) -> None:
        self._socket = socket
        self._channel: grpc.aio.Channel | None = None

    async def __aenter__(self) -> Self:
        if self._socket is not None:
            self._channel = grpc.aio.insecure_channel(f"unix:{self._socket.absolute()}")
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None
    ) -> None:
        if self._channel is not None:
            await self._channel.close()

    async def model(self) -> str:
        """Return the name and digest of the model. Raises EmbeddingUnavailableError."""
        return str((await self._ask([_PROBE])).model)

    async def embed(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """Return one unit vector a text. Raises EmbeddingUnavailableError."""
        vectors: list[list[float]] = []
        for start in range(0, len(texts), BATCH_TEXTS):
            reply = await self._ask(texts[start : start + BATCH_TEXTS])
            vectors += [list(vector.values) for vector in reply.vectors]
        if len(vectors) != len(texts):
            raise EmbeddingUnavailableError(f"{len(vectors)} vectors came for {len(texts)} texts")
        return np.array(vectors, dtype=np.float32)

    async def _ask(self, texts: Sequence[str]) -> pb.EmbedReply:
        if self._channel is None:
            raise EmbeddingUnavailableError("this hub has no inference service")
        context = pb.Context(tenant="hub", priority=pb.PRIORITY_SHADOW, budget_ms=int(BUDGET_S * 1000))
        try:
            reply: pb.EmbedReply = await InferenceStub(self._channel).Embed(
                pb.EmbedRequest(context=context, texts=texts), timeout=BUDGET_S
            )
        except grpc.aio.AioRpcError as error:
            raise EmbeddingUnavailableError(f"{self._socket}: {error.code().name}: {error.details()}") from error
        return reply
