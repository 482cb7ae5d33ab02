"""Copy an operator's own model file into the store, with a manifest, so that settings can name it."""

import json
import shutil
from dataclasses import dataclass
from pathlib import Path

from contract.model_manifest import ModelEngine, ModelFile, ModelKind, ModelManifest
from provisioning.models.errors import ModelImportError
from provisioning.models.store import ModelStore, describe_file

# Spelled as the bytes on disk: GGUF's own magic, and GGML_MAGIC (0x67676d6c) little-endian.
_MAGIC = {ModelEngine.LLAMA_CPP: b"GGUF", ModelEngine.WHISPER_CPP: b"lmgg"}
ENGINES = {
    ModelKind.LLM: ModelEngine.LLAMA_CPP,
    ModelKind.ASR: ModelEngine.WHISPER_CPP,
    ModelKind.TTS: ModelEngine.PIPER,
}


@dataclass(frozen=True, slots=True, kw_only=True)
class ImportOrder:
    """What an operator says about a file."""

    path: Path
    kind: ModelKind
    name: str
    languages: tuple[str, ...]
    licence: str


def import_file(store: ModelStore, order: ImportOrder) -> ModelManifest:
    """Copy the file (a Piper voice with its `.onnx.json`). Raises ModelImportError."""
    if order.kind not in ENGINES:
        raise ModelImportError(f"cannot import a model of kind {order.kind}", hint="use --kind llm, asr or tts")
    if "/" in order.name or order.name.startswith("."):
        raise ModelImportError(f"{order.name!r} is no name for a model", hint="use --name with letters and digits")
    engine = ENGINES[order.kind]
    sources = _sources(order.path, engine)

    def build(target: Path) -> ModelManifest:
        files: list[ModelFile] = []
        for source in sources:
            shutil.copyfile(source, target / source.name)
            files.append(describe_file(target / source.name))
        return ModelManifest(
            name=order.name,
            kind=order.kind,
            engine=engine,
            languages=order.languages,
            licence=order.licence,
            sources=(f"imported:{order.path.name}",),
            files=tuple(files),
        )

    with store.lock(order.name):
        return store.install(order.name, build)


def _sources(path: Path, engine: ModelEngine) -> list[Path]:
    if not path.is_file():
        raise ModelImportError(f"{path} is missing")
    if engine in _MAGIC:
        with path.open("rb") as stream:
            magic = stream.read(4)
        if magic != _MAGIC[engine]:
            raise ModelImportError(f"{path} is no {engine} model: it starts with {magic!r}, not {_MAGIC[engine]!r}")
        return [path]
    return [path, _voice_settings(path)]


def _voice_settings(path: Path) -> Path:
    settings = path.with_name(path.name + ".json")
    try:
        if "sample_rate" not in json.loads(settings.read_text(encoding="utf-8"))["audio"]:
            raise ModelImportError(f"{settings} names no audio.sample_rate")
    except FileNotFoundError as error:
        raise ModelImportError(f"a Piper voice needs {settings.name} beside it") from error
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ModelImportError(f"{settings} is no Piper voice configuration: {error}") from error
    return settings
