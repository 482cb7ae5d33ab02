"""`model.json`: what provisioning promises about a model directory and the inference service checks before it loads.

Text in, dataclass out; reading files and hashing them belongs to `provisioning.models` and
`edge.inference.model_store`.
"""

import json
from dataclasses import asdict, dataclass
from enum import StrEnum

MANIFEST_NAME = "model.json"
MANIFEST_SCHEMA = 1


class ModelKind(StrEnum):
    """What a model is for."""

    ASR = "asr"
    LLM = "llm"
    TTS = "tts"
    EMBEDDING = "embedding"
    VAD = "vad"


class ModelEngine(StrEnum):
    """The program that runs a model, and so the layout of its directory."""

    CTRANSLATE2_WHISPER = "ctranslate2-whisper"
    WHISPER_CPP = "whisper.cpp"
    LLAMA_CPP = "llama.cpp"
    PIPER = "piper"
    CTRANSLATE2_BERT = "ctranslate2-bert"
    ONNX = "onnx"
    SAFETENSORS = "safetensors"


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelFile:
    """One file beside the manifest; `sha256` is lower-case hexadecimal."""

    name: str
    sha256: str
    size_bytes: int


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelManifest:
    """A model directory; `sources` say where its bytes came from, `languages` are BCP 47 tags or "*" for many."""

    name: str
    kind: ModelKind
    engine: ModelEngine
    languages: tuple[str, ...]
    licence: str
    sources: tuple[str, ...]
    files: tuple[ModelFile, ...]

    def digest(self) -> str:
        """Return a short name of exactly these bytes."""
        return self.files[0].sha256[:12]


class MalformedManifestError(ValueError):
    """A `model.json` that is not what `dump_manifest` writes."""


def dump_manifest(manifest: ModelManifest) -> str:
    """Return the text of `model.json`."""
    return json.dumps({"schema": MANIFEST_SCHEMA, **asdict(manifest)}, indent=2) + "\n"


def parse_manifest(text: str) -> ModelManifest:
    """Read the text of a `model.json`. Raises MalformedManifestError."""
    try:
        fields = json.loads(text)
        _require(fields["schema"] == MANIFEST_SCHEMA, f"schema {fields['schema']!r} is not {MANIFEST_SCHEMA}")
        files = tuple(
            ModelFile(name=_plain_name(file["name"]), sha256=str(file["sha256"]), size_bytes=int(file["size_bytes"]))
            for file in fields["files"]
        )
        _require(bool(files), "a model has at least one file")
        return ModelManifest(
            name=str(fields["name"]),
            kind=ModelKind(fields["kind"]),
            engine=ModelEngine(fields["engine"]),
            languages=tuple(str(tag) for tag in fields["languages"]),
            licence=str(fields["licence"]),
            sources=tuple(str(source) for source in fields["sources"]),
            files=files,
        )
    except MalformedManifestError:
        raise
    except (KeyError, TypeError, ValueError) as error:
        raise MalformedManifestError(f"{type(error).__name__}: {error}") from error


def _require(is_so: bool, otherwise: str) -> None:  # noqa: FBT001 - reads as a condition
    if not is_so:
        raise MalformedManifestError(otherwise)


def _plain_name(name: str) -> str:
    is_plain = bool(name) and "/" not in name and not name.startswith(".")
    _require(is_plain, f"{name!r} is not the name of a file in the model's directory")
    return name
