"""`python -m edge.inference --config inference.toml`: load the models, serve until told to stop.

Start order: settings, models (verified, loaded, warmed), socket. A socket that can be connected to means ready.
SIGTERM: refuse new work, let running work end within GRACE_S, close.
"""

import edge.inference.blas_threads  # noqa: F401, I001 - before numpy comes in
import asyncio
import signal
import time
from contextlib import AsyncExitStack
from pathlib import Path

import click
import grpc
import structlog
import uvloop

from contract import inference_pb2_grpc as pb_grpc
from contract.errors import BoroughError
from edge.inference.models import load_models
from edge.inference.service import MAX_MESSAGE_BYTES, InferenceService
from edge.inference.settings import InferenceSettings
from edge.settings_file import load_settings

# Longer than the longest recognition; speech and text that takes longer is cut.
GRACE_S = 2.0
# sysexits.h EX_CONFIG.
EXIT_SETTINGS = 78
# Workers of a node; more connections than this are a fault.
MAX_CONCURRENT_RPCS = 1_024

log = structlog.get_logger()


async def serve(settings: InferenceSettings) -> None:
    """Serve until SIGTERM or SIGINT. Raises InferenceError when a model cannot be loaded."""
    stopped = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stopped.set)
    started_s = time.monotonic()
    async with AsyncExitStack() as stack:
        models = await load_models(settings, stack)
        server = grpc.aio.server(
            maximum_concurrent_rpcs=MAX_CONCURRENT_RPCS,
            options=[("grpc.max_receive_message_length", MAX_MESSAGE_BYTES), ("grpc.so_reuseport", 0)],
        )
        pb_grpc.add_InferenceServicer_to_server(InferenceService(models, time.monotonic), server)
        settings.socket.parent.mkdir(parents=True, exist_ok=True)
        # A killed service leaves its socket behind; gRPC refuses to bind over it.
        settings.socket.unlink(missing_ok=True)
        server.add_insecure_port(f"unix:{settings.socket.absolute()}")
        await server.start()
        log.info("inference_ready", socket=str(settings.socket), seconds=round(time.monotonic() - started_s, 2))
        await stopped.wait()
        log.info("inference_stopping")
        await server.stop(GRACE_S)


@click.command()
@click.option("--config", "path", type=click.Path(path_type=Path, dir_okay=False), required=True)
def main(path: Path) -> None:
    """Serve the models that CONFIG names."""
    try:
        uvloop.run(serve(load_settings(path, InferenceSettings)))
    except BoroughError as error:
        click.echo(f"error: {error}", err=True)
        if error.hint:
            click.echo(f"hint: {error.hint}", err=True)
        raise SystemExit(EXIT_SETTINGS) from error


if __name__ == "__main__":
    main()
