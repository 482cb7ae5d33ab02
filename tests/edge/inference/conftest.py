"""The real models, fetched once, and a real service over a unix socket."""

import asyncio
import os
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from edge.inference.client import InferenceClient
from edge.inference.errors import InferenceLateError
from provisioning.models.fetching import fetch
from provisioning.models.store import ModelStore

ROOT = Path(__file__).parents[3]
STORE = ROOT / ".state/models"
MODELS = ("whisper-tiny.en", "whisper-tiny.en-ggml", "smollm2-135m-instruct", "en_US-joe-medium", "minilm-l6-v2")
# A cold start of all models takes 3.5 s on two idle cores.
START_TIMEOUT_S = 60.0


@pytest.fixture(scope="session")
def model_store() -> Path:
    """The repository's own store with every model these tests use."""
    store = ModelStore(root=STORE)
    for name in MODELS:
        fetch(store, name, lambda _: None)
    return STORE


class Service:
    """The inference service as its own process."""

    def __init__(self, directory: Path, settings: str) -> None:
        self.socket = directory / "i.sock"
        self.config = directory / "inference.toml"
        self.config.write_text(f'socket = "{self.socket}"\nstore = "{STORE}"\n{settings}')
        self.log = directory / "service.log"

    def start(self) -> None:
        environment = {**os.environ, "PYTHONPATH": str(ROOT)}
        with self.log.open("ab") as log:
            command = [sys.executable, "-m", "edge.inference", "--config", str(self.config)]
            self.process = subprocess.Popen(command, stdout=log, stderr=log, env=environment, cwd=ROOT)

    def kill(self) -> None:
        """As a crash would: no cleaning up, the socket's file stays."""
        self.process.kill()
        self.process.wait(10)

    def stop(self) -> int:
        if self.process.poll() is None:
            self.process.terminate()
        try:
            return self.process.wait(15)
        except subprocess.TimeoutExpired:
            self.kill()
            raise


async def works(client: InferenceClient) -> None:
    """Return once the service of this node works on a request."""
    async with asyncio.timeout(START_TIMEOUT_S):
        while True:
            # Its models leave it too little of a busy machine to answer in time.
            with suppress(InferenceLateError):
                if any(load.running for load in await client.health()):
                    return
            await asyncio.sleep(0)


ALL_MODELS = """
[[asr]]
model = "whisper-tiny.en"
[[tts]]
model = "en_US-joe-medium"
[llm]
model = "smollm2-135m-instruct"
[embedding]
model = "minilm-l6-v2"
"""


@pytest.fixture(scope="session")
def service(model_store: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    """One running service with all kinds of models, shared by the tests that do not break it."""
    running = Service(tmp_path_factory.mktemp("inference"), ALL_MODELS)
    running.start()
    yield running
    assert running.stop() == 0, running.log.read_text()


@pytest.fixture
async def client(service: Service) -> AsyncIterator[InferenceClient]:
    """A client of the shared service, ready."""
    async with InferenceClient(service.socket) as connected:
        await connected.wait_until_ready(START_TIMEOUT_S)
        yield connected
