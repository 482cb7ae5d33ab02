"""Settings of the inference service: one TOML file, unknown keys are errors, every error names file and key."""

import tomllib
from pathlib import Path
from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from edge.inference.errors import InferenceSettingsError

# sun_path of unix(7) has 108 bytes with the closing zero.
MAX_SOCKET_PATH_BYTES = 107

Threads = Annotated[int, Field(ge=1, le=64)]
Capacity = Annotated[int, Field(ge=1, le=10_000)]


class _Section(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class AsrSettings(_Section):
    """A recogniser. `workers` utterances run at once on `threads` cores each; they share one copy of the weights."""

    model: str
    workers: Threads = 2
    threads: Threads = 1
    capacity: Capacity = 64


class TtsSettings(_Section):
    """A voice."""

    model: str
    workers: Threads = 2
    threads: Threads = 1
    capacity: Capacity = 64


class LlmSettings(_Section):
    """A language model; `slots` answers are written at once, in one batch.

    llama.cpp's threads wait for each other by spinning: with as many threads as cores and other work beside them, a
    first token took 5.9 s instead of 0.37 s.
    """

    model: str
    slots: Threads = 2
    threads: Threads = 1
    context_tokens: Annotated[int, Field(ge=256, le=131_072)] = 2_048
    capacity: Capacity = 32


class EmbeddingSettings(_Section):
    """A sentence encoder."""

    model: str
    threads: Threads = 1
    capacity: Capacity = 128


class InferenceSettings(_Section):
    """The first recogniser that knows a request's language serves it; the first voice is the default.

    `tenant_weights` are shares of each model when tenants compete; a tenant that is not named weighs 1.
    """

    socket: Path
    store: Path = Path(".state/models")
    asr: tuple[AsrSettings, ...] = ()
    tts: tuple[TtsSettings, ...] = ()
    llm: LlmSettings | None = None
    embedding: EmbeddingSettings | None = None
    tenant_weights: dict[str, Annotated[float, Field(gt=0, le=1_000)]] = {}


def load_settings(path: Path) -> InferenceSettings:
    """Read the settings file. Raises InferenceSettingsError."""
    try:
        settings = InferenceSettings.model_validate(tomllib.loads(path.read_text(encoding="utf-8")))
    except FileNotFoundError as error:
        raise InferenceSettingsError(f"{path} is missing") from error
    except (OSError, tomllib.TOMLDecodeError) as error:
        raise InferenceSettingsError(f"{path}: {error}") from error
    except ValidationError as error:
        first = error.errors()[0]
        key = ".".join(str(part) for part in first["loc"])
        raise InferenceSettingsError(f"{path}: {key}: {first['msg']} (it is {first['input']!r})") from error
    if len(bytes(settings.socket.absolute())) > MAX_SOCKET_PATH_BYTES:
        raise InferenceSettingsError(f"{path}: socket: a unix socket's path has at most {MAX_SOCKET_PATH_BYTES} bytes")
    return settings
