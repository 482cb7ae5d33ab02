"""`python -m edge.inference --config inference.toml`: load the models, serve until told to stop.

Start order: settings, models (verified, loaded, warmed), socket, door for siblings. A socket that can be connected to
means ready.
SIGTERM: refuse new work, let running work end within GRACE_S, close. systemd is told of a model whose thread is stuck
as of a loop that hangs: by no sign of life.
"""

import edge.inference.blas_threads  # noqa: F401, I001 - before numpy comes in
import asyncio
import signal
import time
from contextlib import AbstractAsyncContextManager, AsyncExitStack
from pathlib import Path

import click
import grpc
import structlog
import uvloop

from contract import inference_pb2_grpc as pb_grpc
from contract.errors import BoroughError
from edge.exit_status import exit_status
from edge.inference.errors import SiblingAccessError
from edge.inference.metrics import DoorCounts, queue_registry
from edge.inference.models import Models, load_models
from edge.inference.service import MAX_MESSAGE_BYTES, SIBLING_RANKS, InferenceService
from edge.inference.settings import InferenceSettings, MetricsSettings, SiblingsSettings
from edge.inference.sibling_door import sibling_server
from edge.observability.serving import serving_metrics
from edge.observability.supervision import Supervision
from edge.settings_file import load_settings

# Longer than the longest recognition; speech and text that takes longer is cut.
GRACE_S = 2.0
# The longest work, 512 texts on a busy hub, takes a quarter of it; a thread that is stuck never comes back.
STUCK_AFTER_S = 120.0
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
        loaded: list[Models] = []
        supervision = stack.enter_context(
            Supervision(describe=lambda: _status(loaded), is_alive=lambda: not _is_stuck(loaded))
        )
        supervision.starting("loads models")
        models = await load_models(settings, stack)
        loaded.append(models)
        server = grpc.aio.server(
            maximum_concurrent_rpcs=MAX_CONCURRENT_RPCS,
            options=[("grpc.max_receive_message_length", MAX_MESSAGE_BYTES), ("grpc.so_reuseport", 0)],
        )
        pb_grpc.add_InferenceServicer_to_server(InferenceService(models, time.monotonic), server)
        counts = DoorCounts()
        settings.socket.parent.mkdir(parents=True, exist_ok=True)
        # A killed service leaves its socket behind; gRPC refuses to bind over it.
        settings.socket.unlink(missing_ok=True)
        server.add_insecure_port(f"unix:{settings.socket.absolute()}")
        await server.start()
        servers = [server]
        if settings.siblings is not None:
            servers += await _siblings_server(models, settings.siblings, counts, stack)
        if settings.metrics is not None:
            await stack.enter_async_context(_metrics_of(models, settings.metrics, counts))
        log.info("inference_ready", socket=str(settings.socket), seconds=round(time.monotonic() - started_s, 2))
        supervision.ready()
        await stopped.wait()
        supervision.stopping("ends running work")
        log.info("inference_stopping")
        await asyncio.gather(*(each.stop(GRACE_S) for each in servers))


async def _siblings_server(
    models: Models, settings: SiblingsSettings, counts: DoorCounts, stack: AsyncExitStack
) -> list[grpc.aio.Server]:
    service = InferenceService(models, time.monotonic, SIBLING_RANKS)
    try:
        server = await stack.enter_async_context(sibling_server(settings, service, counts))
    except SiblingAccessError as error:
        # This node's own callers come first. A node that enrolled before there was the role has no certificate for it.
        log.error("siblings_not_served", reason=str(error), hint=error.hint)  # noqa: TRY400 - an operator's to mend
        return []
    counts.is_open = True
    return [server]


def _status(loaded: list[Models]) -> str:
    gates = [(name, gate.health()) for models in loaded for _, name, gate in models.gates()]
    return ", ".join(f"{name}: {health.running} run, {health.queued} wait" for name, health in gates)


def _is_stuck(loaded: list[Models]) -> bool:
    gates = [gate for models in loaded for _, _, gate in models.gates()]
    return any(gate.longest_running_s() > STUCK_AFTER_S for gate in gates)


def _metrics_of(models: Models, settings: MetricsSettings, counts: DoorCounts) -> AbstractAsyncContextManager[int]:
    registry = queue_registry(lambda: [(str(kind), name, gate.health()) for kind, name, gate in models.gates()], counts)
    return serving_metrics(registry, settings.host, settings.port)


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
        raise SystemExit(exit_status([error])) from error


if __name__ == "__main__":
    main()
