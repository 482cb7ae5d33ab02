"""Models are loaded only when every byte is the promised one, and the error says what to do."""

import hashlib
import json
from pathlib import Path

import pytest

from contract.model_manifest import (
    MANIFEST_NAME,
    ModelEngine,
    ModelFile,
    ModelKind,
    ModelManifest,
    dump_manifest,
)
from edge.inference.errors import ModelLoadError
from edge.inference.model_store import open_model

CONTENT = b"weights" * 100


@pytest.fixture
def model(tmp_path: Path) -> Path:
    """A model directory of one file."""
    directory = tmp_path / "m"
    directory.mkdir()
    (directory / "m.gguf").write_bytes(CONTENT)
    manifest = ModelManifest(
        name="m",
        kind=ModelKind.LLM,
        engine=ModelEngine.LLAMA_CPP,
        languages=("en",),
        licence="MIT",
        sources=("pypi:m==1",),
        files=(ModelFile(name="m.gguf", sha256=hashlib.sha256(CONTENT).hexdigest(), size_bytes=len(CONTENT)),),
    )
    (directory / MANIFEST_NAME).write_text(dump_manifest(manifest))
    return directory


def test_whole_model_opens(model: Path) -> None:
    """Its files are found by suffix; the digest is remembered for the next start."""
    opened = open_model(model.parent, "m", ModelKind.LLM)
    assert opened.file(".gguf") == model / "m.gguf"
    assert json.loads((model / ".verified.json").read_text())
    assert open_model(model.parent, "m", ModelKind.LLM) == opened
    with pytest.raises(ModelLoadError, match="onnx"):
        opened.file(".onnx")


def _expect(model: Path, words: str) -> None:
    with pytest.raises(ModelLoadError, match=words) as caught:
        open_model(model.parent, "m", ModelKind.LLM)
    assert caught.value.hint == "borough models fetch m"


def test_truncated_file_is_named(model: Path) -> None:
    """Fewer bytes than promised."""
    (model / "m.gguf").write_bytes(CONTENT[:-1])
    _expect(model, r"m\.gguf is truncated: 699 of 700 bytes")


def test_changed_file_is_named_even_after_a_good_start(model: Path) -> None:
    """Other bytes of the same length, written after the digest was remembered."""
    open_model(model.parent, "m", ModelKind.LLM)
    (model / "m.gguf").write_bytes(b"X" + CONTENT[1:])
    _expect(model, r"m\.gguf has sha256 .*, expected")


def test_missing_file_is_named(model: Path) -> None:
    """No file at all."""
    (model / "m.gguf").unlink()
    _expect(model, r"m\.gguf is missing")


def test_missing_and_malformed_manifests_are_named(model: Path) -> None:
    """No `model.json`, or one that was cut."""
    text = (model / MANIFEST_NAME).read_text()
    (model / MANIFEST_NAME).write_text(text[:40])
    _expect(model, r"model\.json")
    (model / MANIFEST_NAME).unlink()
    _expect(model, r"model\.json is missing")


def test_a_rubbish_sidecar_is_ignored(model: Path) -> None:
    """What remembers digests may be damaged; then the files are hashed."""
    for rubbish in ("", "[]", "{"):
        (model / ".verified.json").write_text(rubbish)
        open_model(model.parent, "m", ModelKind.LLM)


def test_model_of_another_kind_is_refused(model: Path) -> None:
    """A language model is no voice."""
    with pytest.raises(ModelLoadError, match="m is a model for llm, not tts"):
        open_model(model.parent, "m", ModelKind.TTS)
