"""`python -m edge.sync --config sync.toml`: the node agent, until SIGTERM or SIGINT."""

import argparse
import asyncio
import signal
import sys
from pathlib import Path

import uvloop

from contract.errors import BoroughError
from edge.exit_status import exit_status
from edge.observability.logs import configure_logging
from edge.settings_file import load_settings
from edge.sync.agent import run_agent
from edge.sync.settings import SyncSettings


async def serve(settings: SyncSettings) -> None:
    """Run the agent until it is told to stop."""
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    await run_agent(settings, stop)


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m edge.sync", description=__doc__)
    parser.add_argument("--config", type=Path, required=True)
    path = parser.parse_args().config
    try:
        settings = load_settings(path, SyncSettings)
        configure_logging(worker=f"sync-{settings.node.name}")
        uvloop.run(serve(settings))
    except BoroughError as error:
        sys.stderr.write(f"{error}\n{error.hint}\n")
        sys.exit(exit_status([error]))


if __name__ == "__main__":
    main()
