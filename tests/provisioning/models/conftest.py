"""The repository's own model store, filled once."""

from pathlib import Path

import pytest

from provisioning.models.fetching import fetch
from provisioning.models.store import ModelStore

ROOT = Path(__file__).parents[3]


@pytest.fixture(scope="session")
def store() -> ModelStore:
    """A store with the models that these tests read; they change copies only."""
    store = ModelStore(root=ROOT / ".state/models")
    for name in ("whisper-tiny.en", "whisper-tiny.en-ggml", "minilm-l6-v2", "silero-vad", "en_US-joe-medium"):
        fetch(store, name, lambda _: None)
    return store
