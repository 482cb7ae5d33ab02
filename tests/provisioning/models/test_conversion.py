"""Converted models say what their originals say."""

from pathlib import Path
from threading import Event

import ctranslate2
import numpy as np
import onnxruntime
import pytest
from numpy.typing import NDArray
from tokenizers import Tokenizer

from contract.model_manifest import ModelKind
from edge.inference.model_store import open_model
from edge.inference.models import load_recogniser
from edge.inference.piper_voice import Voice
from edge.inference.recognition import RecognitionOrder, recognise, samples_of, words_of
from edge.inference.settings import AsrSettings
from provisioning.models import bert_ctranslate2, whisper_ggml
from provisioning.models.errors import ModelConversionError
from provisioning.models.store import ModelStore

SENTENCES = ("Please send the green jacket to my new address.", "My order has not arrived yet.")


@pytest.mark.parametrize("sentence", SENTENCES)
def test_ggml_hears_what_ctranslate2_hears(store: ModelStore, sentence: str) -> None:
    """The same weights in both engines give the same words for a synthesised sentence."""
    # Piper adds noise; with a seed it is the same noise each time.
    onnxruntime.set_seed(7)
    voice = Voice(open_model(store.root, "en_US-joe-medium", ModelKind.TTS), threads=1)
    samples = samples_of(b"".join(voice.synthesize(sentence, Event())))
    heard = []
    for name in ("whisper-tiny.en", "whisper-tiny.en-ggml"):
        _, engine = load_recogniser(store.root, AsrSettings(model=name, workers=1))
        order = RecognitionOrder(samples=samples, language="en", hints=(), cancelled=Event())
        heard.append(words_of(recognise(engine, order).text))
    assert heard[0] == heard[1] == words_of(sentence)


def _reference(tensors: dict[str, NDArray[np.float32]], ids: list[int]) -> NDArray[np.float32]:
    """BERT's forward pass in float32 numpy (Devlin et al. 2018), mean of the tokens, unit length."""

    def norm(values: NDArray[np.float32], name: str) -> NDArray[np.float32]:
        centred = values - values.mean(-1, keepdims=True)
        scaled = centred / np.sqrt(values.var(-1, keepdims=True) + 1e-12)
        return np.asarray(scaled * tensors[f"{name}.weight"] + tensors[f"{name}.bias"])

    def linear(values: NDArray[np.float32], name: str) -> NDArray[np.float32]:
        return np.asarray(values @ tensors[f"{name}.weight"].T + tensors[f"{name}.bias"])

    hidden = tensors["embeddings.word_embeddings.weight"][ids]
    hidden = hidden + tensors["embeddings.position_embeddings.weight"][: len(ids)]
    hidden = norm(hidden + tensors["embeddings.token_type_embeddings.weight"][0], "embeddings.LayerNorm")
    for layer in range(6):
        name = f"encoder.layer.{layer}"
        query, key, value = (
            linear(hidden, f"{name}.attention.self.{part}").reshape(len(ids), 12, 32).transpose(1, 0, 2)
            for part in ("query", "key", "value")
        )
        scores = np.exp(query @ key.transpose(0, 2, 1) / np.sqrt(32))
        scores /= scores.sum(-1, keepdims=True)
        attended = (scores @ value).transpose(1, 0, 2).reshape(len(ids), 384)
        hidden = norm(hidden + linear(attended, f"{name}.attention.output.dense"), f"{name}.attention.output.LayerNorm")
        inner = linear(hidden, f"{name}.intermediate.dense")
        # GELU by the error function; the tanh form differs by less than 0.001.
        inner = 0.5 * inner * (1 + np.tanh(np.sqrt(2 / np.pi) * (inner + 0.044715 * inner**3)))
        hidden = norm(hidden + linear(inner, f"{name}.output.dense"), f"{name}.output.LayerNorm")
    mean = hidden.mean(0)
    return np.asarray(mean / np.linalg.norm(mean))


def test_int8_sentence_encoder_is_near_its_float_original(store: ModelStore) -> None:
    """Cosine above 0.98 with a float32 forward pass of the published weights; above 0.99 on average."""
    tensors = bert_ctranslate2.read_safetensors(store.directory("minilm-l6-v2-float") / "model.safetensors")
    tokenizer = Tokenizer.from_file(str(store.directory("minilm-l6-v2") / "tokenizer.json"))
    tokenizer.no_padding()
    encoder = ctranslate2.Encoder(str(store.directory("minilm-l6-v2")), compute_type="int8", intra_threads=1)
    cosines = []
    for text in (*SENTENCES, "Where is my parcel?", "What time do you open on Sundays, and is there parking?"):
        ids = tokenizer.encode(text).ids
        mean = np.array(encoder.forward_batch([ids]).last_hidden_state)[0].mean(0)
        cosines.append(float(mean / np.linalg.norm(mean) @ _reference(tensors, ids)))
    assert min(cosines) > 0.98
    assert np.mean(cosines) > 0.99


def test_q8_0_blocks_hold_their_values() -> None:
    """Quantising and dequantising is off by at most half a step; zeros stay zeros."""
    weight = np.random.default_rng(1).normal(size=(8, 64)).astype(np.float32)
    weight[3] = 0
    blocks = np.frombuffer(whisper_ggml.quantise_q8_0(weight), dtype=[("scale", "<f2"), ("values", "i1", 32)])
    again = (blocks["scale"].astype(np.float32)[:, None] * blocks["values"]).reshape(weight.shape)
    assert np.abs(again - weight).max() < np.abs(weight).max() / 127
    assert not again[3].any()


def test_truncated_and_foreign_sources_are_refused(store: ModelStore, tmp_path: Path) -> None:
    """A cut checkpoint, another version, another architecture and a cut safetensors file say so."""
    source = store.directory("whisper-tiny.en")
    whole = (source / "model.bin").read_bytes()
    cut = tmp_path / "cut.bin"
    cut.write_bytes(whole[:100_000])
    with pytest.raises(ModelConversionError, match="ends in the middle"):
        whisper_ggml.convert(cut, source / "tokenizer.json", tmp_path / "out.bin", quantise=True)
    cut.write_bytes(b"\x05" + whole[1:1000])
    with pytest.raises(ModelConversionError, match="binary version 5"):
        whisper_ggml.convert(cut, source / "tokenizer.json", tmp_path / "out.bin", quantise=True)
    bert = store.directory("minilm-l6-v2") / "model.bin"
    with pytest.raises(ModelConversionError, match="no Whisper checkpoint"):
        whisper_ggml.convert(bert, source / "tokenizer.json", tmp_path / "out.bin", quantise=True)
    tensors = store.directory("minilm-l6-v2-float") / "model.safetensors"
    cut.write_bytes(tensors.read_bytes()[:1_000_000])
    with pytest.raises(ModelConversionError, match="no complete safetensors"):
        bert_ctranslate2.read_safetensors(cut)
    assert not (tmp_path / "out.bin").exists()
