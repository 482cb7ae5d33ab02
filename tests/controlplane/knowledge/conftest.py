"""The real inference service, with the embedding model only."""

import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from provisioning.models.fetching import fetch
from provisioning.models.store import ModelStore

ROOT = Path(__file__).parents[3]
STORE = ROOT / ".state/models"
READY_WITHIN_S = 60.0


@pytest.fixture(scope="session")
def socket(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A service with the embedding model only."""
    fetch(ModelStore(root=STORE), "minilm-l6-v2", lambda _: None)
    directory = tmp_path_factory.mktemp("inference")
    path, config = directory / "i.sock", directory / "inference.toml"
    config.write_text(f'socket = "{path}"\nstore = "{STORE}"\n[embedding]\nmodel = "minilm-l6-v2"\n')
    with (directory / "log").open("wb") as log:
        process = subprocess.Popen(
            [sys.executable, "-m", "edge.inference", "--config", str(config)],
            stdout=log,
            stderr=log,
            cwd=ROOT,
            env={**os.environ, "PYTHONPATH": str(ROOT)},
        )
    deadline = time.monotonic() + READY_WITHIN_S
    while not path.exists():
        assert process.poll() is None, (directory / "log").read_text()
        assert time.monotonic() < deadline
        time.sleep(0.05)
    yield path
    process.terminate()
    process.wait(READY_WITHIN_S)
