"""A stream that is being read from one endpoint."""

from dataclasses import dataclass
from typing import Generic, Protocol, TypeVar

from edge.inference.endpoint import Endpoint

Piece = TypeVar("Piece")


class StreamCall(Protocol):
    """What we use of grpc.aio.UnaryStreamCall, which has no types of its own."""

    async def read(self) -> object:
        """Return the next message, or grpc.aio.EOF. Raises AioRpcError."""

    def cancel(self) -> bool:
        """Tell the service that nobody waits any more."""


@dataclass(frozen=True, slots=True)
class Flow(Generic[Piece]):
    """`kind` is the class of its messages."""

    endpoint: Endpoint
    call: StreamCall
    kind: type[Piece]

    async def next(self, _left_s: float = 0.0) -> "Read[Piece]":
        """The next message, None at the end. Raises AioRpcError. Whoever gives up waiting has ended the stream."""
        try:
            piece = await self.call.read()
        except BaseException:
            self.close()
            raise
        return Read(self, piece if isinstance(piece, self.kind) else None)

    def close(self) -> None:
        """End it, if it has not ended."""
        self.call.cancel()


@dataclass(frozen=True, slots=True)
class Read(Generic[Piece]):
    """What was read, and from where."""

    flow: Flow[Piece]
    piece: Piece | None

    def discard(self) -> None:
        """Somebody else was faster."""
        self.flow.close()
