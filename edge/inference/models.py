"""Loads the models that the settings name, each behind its own gate. The composition of the service's inside."""

from collections.abc import Mapping
from contextlib import AsyncExitStack
from dataclasses import dataclass
from pathlib import Path
from threading import Event

import numpy as np

from contract.model_manifest import ModelEngine, ModelKind
from edge.inference.errors import InvalidWorkError, ModelLoadError
from edge.inference.gate import Gate
from edge.inference.llama_generator import LlamaGenerator
from edge.inference.minilm import SentenceEncoder
from edge.inference.model_store import VerifiedModel, open_model
from edge.inference.piper_voice import Voice
from edge.inference.recognition import Recogniser, RecognitionOrder, recognise
from edge.inference.settings import AsrSettings, InferenceSettings
from edge.inference.whisper_cpp import WhisperCppRecogniser
from edge.inference.whisper_ctranslate2 import CTranslate2Recogniser
from edge.settings_file import SettingsError

_WARM_UP_SAMPLES = 32_000


@dataclass(frozen=True, slots=True, kw_only=True)
class RecogniserModel:
    """A recogniser and the languages it knows; "*" stands for all."""

    name: str
    languages: tuple[str, ...]
    engine: Recogniser
    gate: Gate

    def knows(self, language: str) -> bool:
        wanted = language.split("-", maxsplit=1)[0].lower()
        return any(tag == "*" or tag.split("-")[0].lower() == wanted for tag in self.languages)


@dataclass(frozen=True, slots=True, kw_only=True)
class VoiceModel:
    name: str
    voice: Voice
    gate: Gate


@dataclass(frozen=True, slots=True, kw_only=True)
class GeneratorModel:
    name: str
    generator: LlamaGenerator
    gate: Gate


@dataclass(frozen=True, slots=True, kw_only=True)
class EncoderModel:
    name: str
    encoder: SentenceEncoder
    gate: Gate


@dataclass(frozen=True, slots=True, kw_only=True)
class Models:
    """Everything that is loaded."""

    recognisers: tuple[RecogniserModel, ...]
    voices: tuple[VoiceModel, ...]
    generator: GeneratorModel | None
    encoder: EncoderModel | None

    def recogniser(self, language: str) -> RecogniserModel:
        """Return the first recogniser that knows the language. Raises InvalidWorkError."""
        for model in self.recognisers:
            if model.knows(language):
                return model
        raise InvalidWorkError(f"no recogniser knows the language {language!r}")

    def voice(self, name: str) -> VoiceModel:
        """Return the voice of this name, the default for "". Raises InvalidWorkError."""
        for model in self.voices:
            if name in ("", model.name):
                return model
        raise InvalidWorkError(f"there is no voice {name!r}")

    def gates(self) -> list[tuple[ModelKind, str, Gate]]:
        """Return every gate with its model's kind and name."""
        found = [(ModelKind.ASR, model.name, model.gate) for model in self.recognisers]
        found += [(ModelKind.TTS, model.name, model.gate) for model in self.voices]
        if self.generator:
            found.append((ModelKind.LLM, self.generator.name, self.generator.gate))
        if self.encoder:
            found.append((ModelKind.EMBEDDING, self.encoder.name, self.encoder.gate))
        return found


def load_recogniser(store: Path, settings: AsrSettings) -> tuple[VerifiedModel, Recogniser]:
    """Load and warm a recogniser; usable without the service (benches, tests). Raises ModelLoadError."""
    model = open_model(store, settings.model, ModelKind.ASR)
    engine: Recogniser
    match model.manifest.engine:
        case ModelEngine.CTRANSLATE2_WHISPER:
            engine = CTranslate2Recogniser(model, workers=settings.workers, threads=settings.threads)
        case ModelEngine.WHISPER_CPP:
            engine = WhisperCppRecogniser(model, workers=settings.workers, threads=settings.threads)
        case other:
            raise ModelLoadError(f"no recogniser runs {other} models")
    language = model.manifest.languages[0].replace("*", "en")
    noise = np.random.default_rng(seed=1).normal(0.0, 0.01, _WARM_UP_SAMPLES).astype(np.float32)
    recognise(engine, RecognitionOrder(samples=noise, language=language, hints=(), cancelled=Event()))
    return model, engine


def _require(model: VerifiedModel, engine: ModelEngine) -> VerifiedModel:
    if model.manifest.engine is not engine:
        raise ModelLoadError(f"{model.manifest.name} is for {model.manifest.engine}; only {engine} is served")
    return model


async def load_models(settings: InferenceSettings, stack: AsyncExitStack) -> Models:
    """Load all models and enter their gates into `stack`; blocks the loop, nothing is served yet.

    Raises ModelLoadError or SettingsError.
    """
    if not (settings.asr or settings.tts or settings.llm or settings.embedding):
        raise SettingsError("the settings name no model: add [[asr]], [[tts]], [llm] or [embedding]")
    weights: Mapping[str, float] = settings.tenant_weights
    recognisers = []
    for asr in settings.asr:
        model, engine = load_recogniser(settings.store, asr)
        gate = Gate(name=f"asr:{asr.model}", concurrency=asr.workers, capacity=asr.capacity, weights=weights)
        await stack.enter_async_context(gate)
        languages = model.manifest.languages
        recognisers.append(RecogniserModel(name=asr.model, languages=languages, engine=engine, gate=gate))
    voices = []
    for tts in settings.tts:
        model = _require(open_model(settings.store, tts.model, ModelKind.TTS), ModelEngine.PIPER)
        gate = Gate(name=f"tts:{tts.model}", concurrency=tts.workers, capacity=tts.capacity, weights=weights)
        await stack.enter_async_context(gate)
        voices.append(VoiceModel(name=tts.model, voice=Voice(model, threads=tts.threads), gate=gate))
    return Models(
        recognisers=tuple(recognisers),
        voices=tuple(voices),
        generator=await _load_generator(settings, stack),
        encoder=await _load_encoder(settings, stack),
    )


async def _load_generator(settings: InferenceSettings, stack: AsyncExitStack) -> GeneratorModel | None:
    llm = settings.llm
    if llm is None:
        return None
    model = _require(open_model(settings.store, llm.model, ModelKind.LLM), ModelEngine.LLAMA_CPP)
    generator = LlamaGenerator(model, slots=llm.slots, threads=llm.threads, context_tokens=llm.context_tokens)
    weights = settings.tenant_weights
    gate = Gate(name=f"llm:{llm.model}", concurrency=llm.slots, capacity=llm.capacity, weights=weights)
    await stack.enter_async_context(gate)
    return GeneratorModel(name=llm.model, generator=generator, gate=gate)


async def _load_encoder(settings: InferenceSettings, stack: AsyncExitStack) -> EncoderModel | None:
    embedding = settings.embedding
    if embedding is None:
        return None
    model = open_model(settings.store, embedding.model, ModelKind.EMBEDDING)
    encoder = SentenceEncoder(_require(model, ModelEngine.CTRANSLATE2_BERT), threads=embedding.threads)
    encoder.embed(["warm up"])
    weights = settings.tenant_weights
    gate = Gate(name=f"embedding:{embedding.model}", concurrency=1, capacity=embedding.capacity, weights=weights)
    await stack.enter_async_context(gate)
    return EncoderModel(name=encoder.name, encoder=encoder, gate=gate)
