"""Logging of a process: structlog, JSON on the box, console on a terminal, one processor that masks personal data.

Everything passes through the same chain, the standard library's records (aiohttp, aiortc, asyncio) included, so no
line can go around the mask.
"""

import logging
import sys
from collections.abc import MutableMapping
from typing import TextIO

import structlog
from structlog.typing import EventDict, Processor, WrappedLogger

from edge.observability.masking import mask_text, mask_value

# Libraries that log personal content, every packet or every look at INFO.
QUIET_LOGGERS = ("aioice", "aiortc", "aiohttp.access", "libav", "watchfiles")


def configure_logging(*, worker: str, level: int = logging.INFO, stream: TextIO | None = None) -> None:
    """Set up logging for this process; called once, by `main`."""
    output = sys.stderr if stream is None else stream
    handler = logging.StreamHandler(output)
    handler.setFormatter(_formatter(is_terminal=output.isatty()))
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(level)
    for name in QUIET_LOGGERS:
        logging.getLogger(name).setLevel(logging.WARNING)
    structlog.configure(
        processors=[
            structlog.stdlib.filter_by_level,
            *_shared_processors(),
            structlog.stdlib.ProcessorFormatter.wrap_for_formatter,
        ],
        logger_factory=structlog.stdlib.LoggerFactory(),
        wrapper_class=structlog.stdlib.BoundLogger,
        cache_logger_on_first_use=False,
    )
    structlog.contextvars.clear_contextvars()
    structlog.contextvars.bind_contextvars(worker=worker)


def bind_call(*, call_id: str, tenant: str) -> None:
    """Give every further line of this task, and of tasks it starts, the call and its tenant."""
    structlog.contextvars.bind_contextvars(call_id=call_id, tenant=tenant)


def mask_personal_data(logger: WrappedLogger, method_name: str, event: EventDict) -> EventDict:  # noqa: ARG001
    """Structlog processor: every value of the event as `edge.observability.masking` allows it."""
    masked: MutableMapping[str, object] = {mask_text(key): mask_value(key, value) for key, value in event.items()}
    return masked


def _shared_processors() -> list[Processor]:
    return [
        structlog.contextvars.merge_contextvars,
        structlog.stdlib.add_log_level,
        structlog.stdlib.add_logger_name,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        structlog.stdlib.PositionalArgumentsFormatter(),
    ]


def _formatter(*, is_terminal: bool) -> logging.Formatter:
    renderer: Processor = structlog.processors.JSONRenderer(ensure_ascii=False)
    if is_terminal:
        renderer = structlog.dev.ConsoleRenderer(exception_formatter=structlog.dev.plain_traceback)
    return structlog.stdlib.ProcessorFormatter(
        foreign_pre_chain=[structlog.stdlib.ExtraAdder(), *_shared_processors()],
        processors=[
            structlog.stdlib.ProcessorFormatter.remove_processors_meta,
            structlog.processors.StackInfoRenderer(),
            structlog.processors.format_exc_info,
            mask_personal_data,
            renderer,
        ],
    )
