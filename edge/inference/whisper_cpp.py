"""Whisper in whisper.cpp, for an operator's GGML file; one context per concurrent utterance.

On the same weights it takes 2.4 times as long per core as CTranslate2, so it is not the default.
"""

import math
import queue
from collections.abc import Iterator
from contextlib import contextmanager

import _pywhispercpp as binding
import numpy as np

from edge.inference.errors import InvalidWorkError, ModelLoadError
from edge.inference.log_mel import HOP_SAMPLES, SAMPLE_RATE_HZ, window_frames
from edge.inference.model_store import VerifiedModel
from edge.inference.recognition import Recognition, RecognitionOrder
from edge.inference.whisper_ctranslate2 import EXTRA_TOKENS, TOKENS_PER_S, hint_prompt

# whisper.cpp returns nothing for audio under a second (`whisper_full_with_state`).
_MIN_SAMPLES = SAMPLE_RATE_HZ + 1_600
# openai/whisper's thresholds; whisper.cpp applies them itself and then returns no segment.
_NO_SPEECH = 0.6


class WhisperCppRecogniser:
    """Implements `Recogniser`; `decode` may run in `workers` threads at once."""

    def __init__(self, model: VerifiedModel, *, workers: int, threads: int) -> None:
        """Load the file once per worker. Raises ModelLoadError."""
        path = model.file(".bin")
        parameters = binding.whisper_context_default_params()
        parameters.use_gpu = False
        parameters.flash_attn = True
        self._threads = threads
        self._is_multilingual = False
        self._contexts: queue.SimpleQueue[binding.whisper_context] = queue.SimpleQueue()
        for _ in range(workers):
            context = binding.whisper_init_from_file_with_params(str(path), parameters)
            if context is None:
                raise ModelLoadError(f"whisper.cpp cannot read {path}", hint="borough models list")
            self._is_multilingual = bool(binding.whisper_is_multilingual(context))
            self._contexts.put(context)

    def decode(self, order: RecognitionOrder) -> Recognition:
        samples = order.samples
        if len(samples) < _MIN_SAMPLES:
            samples = np.pad(samples, (0, _MIN_SAMPLES - len(samples)))
        parameters = self._parameters(order, len(samples))
        with self._context() as context:
            binding.assign_abort_callback(parameters, order.cancelled.is_set)
            try:
                # Not zero when the work was cancelled: then nobody reads the text.
                status = binding.whisper_full(context, parameters, samples, len(samples))
            finally:
                binding.clear_abort_callback(parameters)
            return _read(context) if status == 0 else _nothing()

    @contextmanager
    def _context(self) -> Iterator["binding.whisper_context"]:
        context = self._contexts.get()
        try:
            yield context
        finally:
            self._contexts.put(context)

    def _parameters(self, order: RecognitionOrder, samples: int) -> "binding.whisper_full_params":
        language = order.language.split("-")[0].lower() if self._is_multilingual else "en"
        if binding.whisper_lang_id(language) < 0:
            raise InvalidWorkError(f"whisper.cpp does not know the language {language!r}")
        parameters = binding.whisper_full_default_params(binding.whisper_sampling_strategy.WHISPER_SAMPLING_GREEDY)
        parameters.n_threads = self._threads
        # Two mel frames are one position of the encoder.
        parameters.audio_ctx = window_frames(samples // HOP_SAMPLES) // 2
        parameters.language = language
        parameters.max_tokens = int(samples / SAMPLE_RATE_HZ * TOKENS_PER_S) + EXTRA_TOKENS
        # One try: each further temperature would cost as much again, and loops are cut afterwards.
        parameters.temperature_inc = 0.0
        parameters.no_speech_thold = _NO_SPEECH
        parameters.initial_prompt = hint_prompt(order.hints)
        for name in ("no_context", "single_segment", "suppress_blank", "suppress_nst", "no_timestamps"):
            setattr(parameters, name, True)
        for name in ("print_progress", "print_realtime", "print_timestamps", "print_special"):
            setattr(parameters, name, False)
        return parameters


def _nothing() -> Recognition:
    return Recognition(text="", no_speech_probability=1.0, average_log_probability=0.0)


def _read(context: "binding.whisper_context") -> Recognition:
    segments = range(binding.whisper_full_n_segments(context))
    if not segments:
        return _nothing()
    text = b"".join(binding.whisper_full_get_segment_text(context, segment) for segment in segments)
    probabilities = [
        binding.whisper_full_get_token_p(context, segment, token)
        for segment in segments
        for token in range(binding.whisper_full_n_tokens(context, segment))
    ]
    logarithms = [math.log(max(probability, 1e-6)) for probability in probabilities]
    return Recognition(
        text=text.decode(errors="replace").strip(),
        # The binding does not tell; whisper.cpp has dropped the segments that are above the threshold.
        no_speech_probability=0.0,
        average_log_probability=sum(logarithms) / max(1, len(logarithms)),
    )
