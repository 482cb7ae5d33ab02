"""A model appears in the store whole and verified, or not at all."""

import shutil
import threading
from pathlib import Path

import pytest

from provisioning.models import fetching
from provisioning.models.conversion import RECIPES
from provisioning.models.errors import ModelDownloadError, ModelVerificationError, UnknownModelError
from provisioning.models.fetching import fetch
from provisioning.models.registry import Packaged, find_entry, load_registry
from provisioning.models.store import ModelStore

# The smallest packaged model: 1.3 MB of a 10 MB wheel.
SMALL = "silero-vad"


def test_registry_is_complete() -> None:
    """Every entry comes from somewhere, exactly pinned; every converted one from a model that exists."""
    registry = load_registry()
    for entry in registry.values():
        assert entry.licence
        assert entry.languages
        if isinstance(entry.origin, Packaged):
            assert all("==" in package for package in entry.origin.packages)
            assert all(len(packaged.file.sha256) == 64 for packaged in entry.origin.files)
        else:
            assert entry.origin.source in registry
            assert entry.origin.recipe in RECIPES


def test_fetch_brings_a_verified_model_and_leaves_it_alone_afterwards(tmp_path: Path) -> None:
    """The second fetch does nothing; after damage it mends."""
    steps: list[str] = []
    store = ModelStore(root=tmp_path)
    manifest = fetch(store, SMALL, steps.append)
    assert store.verify(SMALL) == manifest
    assert steps == ["downloading silero-vad==6.2.3", "unpacking and verifying silero-vad"]
    path = store.directory(SMALL) / manifest.files[0].name
    assert fetch(store, SMALL, steps.append) == manifest
    assert len(steps) == 2
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(ModelVerificationError, match="truncated") as caught:
        store.verify(SMALL)
    assert caught.value.hint == "borough models fetch silero-vad"
    fetch(store, SMALL, steps.append)
    assert store.verify(SMALL) == manifest
    assert not list(tmp_path.glob(".partial*"))
    assert not list(tmp_path.glob(".download*"))


def test_two_fetches_at_once_do_not_clash(tmp_path: Path) -> None:
    """The second waits for the first and finds its work done."""
    store = ModelStore(root=tmp_path)
    steps: list[str] = []
    threads = [threading.Thread(target=fetch, args=(store, SMALL, steps.append)) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    store.verify(SMALL)
    assert len(steps) == 2


def test_unknown_name_lists_the_known_ones(tmp_path: Path) -> None:
    """A typing error says what there is."""
    with pytest.raises(UnknownModelError, match=r"whisper-tiny\.en"):
        fetch(ModelStore(root=tmp_path), "whisper-tiny", lambda _: None)


def test_unreachable_index_is_reported_with_pips_words(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The operator's pip settings rule: an index that refuses connections is an error, and nothing is left behind."""
    for key in ("PIP_FIND_LINKS", "PIP_EXTRA_INDEX_URL"):
        monkeypatch.delenv(key, raising=False)
    monkeypatch.setenv("PIP_INDEX_URL", "http://127.0.0.1:9/simple")
    monkeypatch.setenv("PIP_RETRIES", "0")
    monkeypatch.setenv("PIP_CONFIG_FILE", "/dev/null")
    monkeypatch.setenv("PIP_NO_CACHE_DIR", "1")
    with pytest.raises(ModelDownloadError, match=r"silero-vad==6\.2\.3") as caught:
        fetch(ModelStore(root=tmp_path), SMALL, lambda _: None)
    assert "pip config list" in caught.value.hint
    assert [path.name for path in tmp_path.iterdir()] == [".silero-vad.lock"]


def test_a_changed_package_is_refused(tmp_path: Path) -> None:
    """Bytes that are not the registered ones never get the model's name."""
    store = ModelStore(root=tmp_path)
    entry = find_entry(SMALL)
    assert isinstance(entry.origin, Packaged)
    wheel = tmp_path / "other.whl"
    shutil.make_archive(str(tmp_path / "other"), "zip", Path(__file__).parent)
    (tmp_path / "other.zip").rename(wheel)
    origin = entry.origin
    with store.lock(SMALL), pytest.raises(ModelVerificationError, match="no package has the file"):
        store.install(SMALL, lambda target: fetching._unpack(entry, origin, [wheel], target))
    assert not store.directory(SMALL).exists()
