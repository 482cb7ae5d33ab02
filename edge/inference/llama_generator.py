"""A GGUF language model in llama.cpp's server, inside this process: continuous batching, a prompt cache per slot.

The chat template is the one in the GGUF file, so any instruct model drops in.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from threading import Event
from typing import TypedDict

import xllamacpp

from edge.inference.errors import InferenceUnavailableError, ModelLoadError
from edge.inference.model_store import VerifiedModel


class _Delta(TypedDict, total=False):
    content: str | None


class _Choice(TypedDict):
    delta: _Delta


class _Chunk(TypedDict, total=False):
    choices: list[_Choice]
    code: int
    message: str


@dataclass(frozen=True, slots=True, kw_only=True)
class ChatTurn:
    """`role` is "user" or "assistant"."""

    role: str
    text: str


@dataclass(frozen=True, slots=True, kw_only=True)
class GenerationOrder:
    """What to write; stops early once `cancelled` is set."""

    system: str
    turns: Sequence[ChatTurn]
    max_tokens: int
    temperature: float
    cancelled: Event


class LlamaGenerator:
    """Blocking; as many threads at once as it has slots."""

    def __init__(self, model: VerifiedModel, *, slots: int, threads: int, context_tokens: int) -> None:
        """Load and warm the model; `context_tokens` is per slot. Raises ModelLoadError."""
        params = xllamacpp.CommonParams()
        params.model.path = str(model.file(".gguf"))
        params.n_parallel = slots
        params.n_ctx = slots * context_tokens
        params.cpuparams.n_threads = threads
        params.cpuparams_batch.n_threads = threads
        params.cpuparams.poll = 0
        params.cpuparams_batch.poll = 0
        params.n_gpu_layers = 0
        params.warmup = True
        params.cont_batching = True
        params.cache_prompt = True
        params.verbosity = -1
        try:
            self._server = xllamacpp.Server(params)
        except (RuntimeError, ValueError) as error:
            hint = f"borough models verify {model.manifest.name}"
            raise ModelLoadError(f"{model.directory}: {error}", hint=hint) from error

    def generate(self, order: GenerationOrder, emit: Callable[[str], None]) -> None:
        """Hand out the text piece by piece. Raises InferenceUnavailableError when llama.cpp refuses."""
        messages = [{"role": "system", "content": order.system}] if order.system else []
        messages += [{"role": turn.role, "content": turn.text} for turn in order.turns]
        request = {
            "messages": messages,
            "max_tokens": order.max_tokens,
            "temperature": order.temperature,
            "stream": True,
            "cache_prompt": True,
        }
        failures: list[str] = []

        def take(chunk: _Chunk) -> bool:
            """Return True to stop llama.cpp."""
            if "choices" not in chunk:
                failures.append(str(chunk.get("message", chunk)))
                return True
            for choice in chunk["choices"]:
                if piece := choice["delta"].get("content"):
                    emit(piece)
            return order.cancelled.is_set()

        self._server.handle_chat_completions(request, take)
        if failures:
            raise InferenceUnavailableError(f"llama.cpp: {failures[0]}")
