"""Leaving so that siblings go on with the calls: the process ends at once, and nothing is ended on its way out.

Theory of operation. A group of tasks that fails cancels the rest of it, and a call that is cancelled hangs its caller
up: a mistake anywhere in a worker would end all its calls. After kill -9 none is lost: Asterisk keeps the callers,
the kernel tells the siblings (`edge.call.siblings`), and they go on with what is on record (`edge.call.takeover`). So a
worker that cannot go on does the same by itself, before anything of it is cancelled: what waits for the disk is
written, the reason is logged, and the process is gone.

`GuardedTasks` sees the mistakes of its own tasks before its group does; `Departure`, as a context, those of everything
that is entered above it. A mistake of one call ends that call only and comes to neither (`edge.call.reception`).
"""

import asyncio
import contextlib
import os
import sys
from collections.abc import Awaitable, Callable, Coroutine, Iterable, Iterator
from contextvars import Context
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Self, TypeVar

import structlog

from edge.exit_status import exit_status

log = structlog.get_logger(__name__)

# Callers hear the worker meanwhile; a disk that takes longer is not waited for.
WRITTEN_WITHIN_S = 1.0
T = TypeVar("T")


@dataclass(slots=True, kw_only=True)
class Departure:
    """Async context manager; while it is armed, an error that comes out of its body ends the process.

    `settle` waits for what is on its way to the disk, at most so many seconds; `end` ends the process.
    """

    settle: Callable[[float], Awaitable[bool]]
    end: Callable[[int], object] = os._exit
    is_armed: bool = False

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if isinstance(error, Exception):
            await self.failed(error)

    async def failed(self, error: Exception) -> None:
        """Leave because of this error; does nothing while calls cannot be there."""
        if not self.is_armed:
            return
        log.error("worker_failed", kind=", ".join(type(each).__name__ for each in alone([error])), exc_info=error)
        await self.leave(exit_status([error]))

    async def leave(self, status: int) -> None:
        """End the process with this status; calls stay as they are."""
        with contextlib.suppress(Exception):
            await self.settle(WRITTEN_WITHIN_S)
        log.warning("worker_left", status=status)
        sys.stdout.flush()
        sys.stderr.flush()
        self.end(status)


class GuardedTasks(asyncio.TaskGroup):
    """A group that tells of a task's error before it cancels the others."""

    def __init__(self, on_failure: Callable[[Exception], Awaitable[None]]) -> None:
        super().__init__()
        self._on_failure = on_failure

    def create_task(
        self,
        coro: Coroutine[Any, Any, T],  # type: ignore[override]
        *,
        name: str | None = None,
        context: Context | None = None,
    ) -> asyncio.Task[T]:
        """As asyncio.TaskGroup."""
        task = super().create_task(self._guard(coro), name=name, context=context)
        # One that is cancelled before it began was never awaited.
        task.add_done_callback(lambda _: coro.close())
        return task

    async def _guard(self, coro: Coroutine[Any, Any, T]) -> T:
        try:
            return await coro
        except Exception as error:
            await self._on_failure(error)
            raise


def alone(errors: Iterable[BaseException]) -> Iterator[BaseException]:
    """Errors without the task groups that they came through."""
    for error in errors:
        if isinstance(error, BaseExceptionGroup):
            yield from alone(error.exceptions)
        else:
            yield error
