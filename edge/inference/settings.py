"""Settings of the inference service (`inference.toml`)."""

from pathlib import Path
from typing import Annotated

from pydantic import Field, field_validator

from contract.names import NODE_PATTERN, REGION_PATTERN
from edge.settings_file import Section

# sun_path of unix(7) has 108 bytes with the closing zero.
MAX_SOCKET_PATH_BYTES = 107

Threads = Annotated[int, Field(ge=1, le=64)]
Capacity = Annotated[int, Field(ge=1, le=10_000)]


class AsrSettings(Section):
    """A recogniser. `workers` utterances run at once on `threads` cores each; they share one copy of the weights."""

    model: str
    workers: Threads = 2
    threads: Threads = 1
    capacity: Capacity = 64


class TtsSettings(Section):
    """A voice."""

    model: str
    workers: Threads = 2
    threads: Threads = 1
    capacity: Capacity = 64


class LlmSettings(Section):
    """A language model; `slots` answers are written at once, in one batch.

    llama.cpp's threads wait for each other by spinning: with as many threads as cores and other work beside them, a
    first token took 5.9 s instead of 0.37 s.
    """

    model: str
    slots: Threads = 2
    threads: Threads = 1
    context_tokens: Annotated[int, Field(ge=256, le=131_072)] = 2_048
    capacity: Capacity = 32


class EmbeddingSettings(Section):
    """A sentence encoder."""

    model: str
    threads: Threads = 1
    capacity: Capacity = 128


class MetricsSettings(Section):
    """Where /metrics is served."""

    host: str = "127.0.0.1"
    port: Annotated[int, Field(ge=0, le=65_535)]


class SiblingsSettings(Section):
    """Where call workers of the region's other nodes may ask, when their own inference is gone or slow.

    `certificate` is the node's own in the role `inference`; `roster` says whose call workers are let in, and is read
    again whenever it was replaced.
    """

    host: str
    port: Annotated[int, Field(ge=0, le=65_535)] = 50_051
    region: str = Field(pattern=f"^{REGION_PATTERN}$")
    node: str = Field(pattern=f"^{NODE_PATTERN}$")
    authority: Path
    certificate: Path
    key: Path
    roster: Path
    requests_at_once: Annotated[int, Field(ge=1, le=1_000)] = 16


class InferenceSettings(Section):
    """The first recogniser that knows a request's language serves it; the first voice is the default.

    `tenant_weights` are shares of each model when tenants compete; a tenant that is not named weighs 1.
    """

    socket: Path
    store: Path = Path(".state/models")
    asr: tuple[AsrSettings, ...] = ()
    tts: tuple[TtsSettings, ...] = ()
    llm: LlmSettings | None = None
    embedding: EmbeddingSettings | None = None
    metrics: MetricsSettings | None = None
    siblings: SiblingsSettings | None = None
    tenant_weights: dict[str, Annotated[float, Field(gt=0, le=1_000)]] = Field(default_factory=dict)

    @field_validator("socket")
    @classmethod
    def _fits_an_address(cls, socket: Path) -> Path:
        if len(bytes(socket.absolute())) > MAX_SOCKET_PATH_BYTES:
            raise ValueError(f"a unix socket's path has at most {MAX_SOCKET_PATH_BYTES} bytes")
        return socket
