"""Whisper in CTranslate2: one copy of the weights, int8, a worker thread per concurrent utterance.

The encoder gets a window as short as the audio allows instead of 30 s; that is the whole gain over the usual way of
running these weights (a fifth of the time), and `log_mel` holds the rules that keep it safe.
"""

import ctranslate2
from tokenizers import Tokenizer

from edge.inference.errors import InvalidWorkError, ModelLoadError
from edge.inference.log_mel import HOP_SAMPLES, MAX_FRAMES, MIN_FRAMES, SAMPLE_RATE_HZ, Samples, log_mel
from edge.inference.model_store import VerifiedModel
from edge.inference.recognition import Recognition, RecognitionOrder, words_of

# Fast speakers reach 5 tokens a second; text that is denser than this is a loop.
TOKENS_PER_S = 8.0
EXTRA_TOKENS = 10
# Names and words beyond this would cost more decoding time than they are worth.
MAX_HINT_TOKENS = 48
# The decoder's context.
_MAX_LENGTH = 448
# A second try gets this much more silence and no hints, once, when the first ran into its token limit.
_RETRY_FRAMES = 384


def hint_prompt(hints: tuple[str, ...]) -> str:
    """Return hints as text that seems to have gone before; without its full stop Whisper repeats the audio's words
    (12 % word errors instead of 5 %)."""
    return f" {', '.join(hints)}." if hints else ""


class CTranslate2Recogniser:
    """Implements `Recogniser`; `decode` may run in as many threads at once as `workers`."""

    def __init__(self, model: VerifiedModel, *, workers: int, threads: int) -> None:
        """Load the weights; blocks for a few hundred milliseconds. Raises ModelLoadError."""
        try:
            self._whisper = ctranslate2.models.Whisper(
                str(model.directory), compute_type="int8", inter_threads=workers, intra_threads=threads
            )
            self._tokenizer = Tokenizer.from_file(str(model.directory / "tokenizer.json"))
        except (RuntimeError, ValueError, OSError) as error:
            raise ModelLoadError(f"{model.directory}: {error}") from error
        self._mels = int(self._whisper.n_mels)
        self._is_multilingual = bool(self._whisper.is_multilingual)

    def decode(self, order: RecognitionOrder) -> Recognition:
        samples = order.samples[: MAX_FRAMES * HOP_SAMPLES]
        limit = int(len(samples) / SAMPLE_RATE_HZ * TOKENS_PER_S) + EXTRA_TOKENS
        found, is_cut = self._run(samples, self._prompt(order.language, order.hints), limit, MIN_FRAMES)
        if is_cut and not order.cancelled.is_set():
            frames = min(len(samples) // HOP_SAMPLES + _RETRY_FRAMES, MAX_FRAMES)
            frames = max(frames, MIN_FRAMES + _RETRY_FRAMES)
            again, is_cut = self._run(samples, self._prompt(order.language, ()), limit, frames)
            return again if not is_cut or len(words_of(again.text)) < len(words_of(found.text)) else found
        return found

    def _run(self, samples: Samples, prompt: list[int], limit: int, min_frames: int) -> tuple[Recognition, bool]:
        features = ctranslate2.StorageView.from_array(log_mel(samples, mels=self._mels, min_frames=min_frames))
        # CTranslate2 generates at most min(max_length / 2, max_length - len(prompt)) tokens (src/models/whisper.cc).
        max_length = min(_MAX_LENGTH, max(2 * limit, limit + len(prompt)))
        (result,) = self._whisper.generate(
            features,
            [prompt],
            beam_size=1,
            max_length=max_length,
            return_scores=True,
            return_no_speech_prob=True,
        )
        tokens = result.sequences_ids[0]
        # The score is the mean over the tokens; Whisper's own average counts the end token too.
        average = result.scores[0] * len(tokens) / (len(tokens) + 1)
        found = Recognition(
            text=self._tokenizer.decode(tokens).strip(),
            no_speech_probability=result.no_speech_prob,
            average_log_probability=average,
        )
        return found, len(tokens) >= limit

    def _prompt(self, spoken: str, hints: tuple[str, ...]) -> list[int]:
        prompt = [*self._hint_tokens(hints), self._token("<|startoftranscript|>")]
        if self._is_multilingual:
            language = f"<|{spoken.split('-', maxsplit=1)[0].lower()}|>"
            prompt += [self._token(language), self._token("<|transcribe|>")]
        return [*prompt, self._token("<|notimestamps|>")]

    def _hint_tokens(self, hints: tuple[str, ...]) -> list[int]:
        if not hints:
            return []
        tokens = self._tokenizer.encode(hint_prompt(hints), add_special_tokens=False).ids
        return [self._token("<|startofprev|>"), *tokens[:MAX_HINT_TOKENS]]

    def _token(self, text: str) -> int:
        token = self._tokenizer.token_to_id(text)
        if token is None:
            raise InvalidWorkError(f"this model does not know {text}")
        return int(token)
