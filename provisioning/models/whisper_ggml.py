"""Convert a Whisper checkpoint from CTranslate2's `model.bin` to a whisper.cpp GGML file.

Owns the two binary layouts and nothing else: where the files come from and whether
the result may be used is decided by `registry` and `verification`.

Sources: CTranslate2 `ModelReader` (model.bin, binary version 6) and whisper.cpp
`models/convert-pt-to-ggml.py` and `src/whisper.cpp` (`whisper_model_load`).
"""

import json
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

import numpy as np
from numpy.typing import NDArray

from provisioning.models.errors import ModelConversionError

GGML_MAGIC = 0x67676D6C
GGML_F32, GGML_F16, GGML_Q8_0 = 0, 1, 8
# File type as whisper.cpp reads it: 7 is "mostly Q8_0", 2 is the quantisation version.
FILE_TYPE_Q8_0 = 2 * 1000 + 7
Q8_0_BLOCK = 32

N_FFT = 400
SAMPLE_RATE_HZ = 16_000
N_AUDIO_CTX = 1_500
HEAD_SIZE = 64

_DTYPES: dict[int, np.dtype[np.generic]] = {
    0: np.dtype("<f4"),
    1: np.dtype("i1"),
    2: np.dtype("<i2"),
    3: np.dtype("<i4"),
    4: np.dtype("<f2"),
}

Tensor = NDArray[np.float32]


@dataclass(frozen=True, slots=True, kw_only=True)
class Dimensions:
    """The hyper-parameters whisper.cpp reads from the head of a GGML file."""

    vocab: int
    audio_state: int
    audio_layers: int
    text_ctx: int
    text_state: int
    text_layers: int
    mels: int


class _Reader:
    def __init__(self, stream: BinaryIO, path: Path) -> None:
        self._stream = stream
        self._path = path

    def take(self, count: int) -> bytes:
        piece = self._stream.read(count)
        if len(piece) != count:
            raise ModelConversionError(f"{self._path} ends in the middle of a tensor")
        return piece

    def unpack(self, fmt: str) -> int:
        (number,) = struct.unpack(fmt, self.take(struct.calcsize(fmt)))
        return int(number)

    def text(self) -> str:
        return self.take(self.unpack("<H")).rstrip(b"\0").decode()


def read_ctranslate2(path: Path) -> dict[str, Tensor]:
    """Return every variable of a CTranslate2 model as float32, aliases resolved.

    Raises ModelConversionError when the file is truncated or of another version.
    """
    with path.open("rb") as stream:
        reader = _Reader(stream, path)
        version = reader.unpack("<I")
        if version != 6:
            raise ModelConversionError(f"{path} has binary version {version}, expected 6")
        reader.text()
        reader.unpack("<I")
        variables: dict[str, Tensor] = {}
        for _ in range(reader.unpack("<I")):
            name = reader.text()
            shape = [reader.unpack("<I") for _ in range(reader.unpack("<B"))]
            dtype_id = reader.unpack("<B")
            raw = reader.take(reader.unpack("<I"))
            if dtype_id not in _DTYPES:
                raise ModelConversionError(f"{path}: {name} has unknown data type {dtype_id}")
            variables[name] = np.frombuffer(raw, dtype=_DTYPES[dtype_id]).reshape(shape).astype(np.float32)
        for _ in range(reader.unpack("<I")):
            alias, target = reader.text(), reader.text()
            variables[alias] = variables[target]
    return variables


def mel_filters(mels: int) -> Tensor:
    """Slaney-normalised mel filter bank, shape (mels, 201), as `librosa.filters.mel` gives it."""

    def mel_to_hz(mel: NDArray[np.float64]) -> NDArray[np.float64]:
        linear = mel * 200.0 / 3
        logarithmic = 1000.0 * np.exp(np.log(6.4) / 27.0 * (mel - 15.0))
        return np.where(mel >= 15.0, logarithmic, linear)

    top = 15.0 + np.log(SAMPLE_RATE_HZ / 2 / 1000.0) / (np.log(6.4) / 27.0)
    edges = mel_to_hz(np.linspace(0.0, top, mels + 2))
    bins = np.linspace(0, SAMPLE_RATE_HZ / 2, N_FFT // 2 + 1)
    widths = np.diff(edges)
    ramps = edges[:, None] - bins[None, :]
    lower = -ramps[:-2] / widths[:-1, None]
    upper = ramps[2:] / widths[1:, None]
    bank = np.maximum(0, np.minimum(lower, upper))
    bank *= (2.0 / (edges[2:] - edges[:-2]))[:, None]
    return bank.astype(np.float32)


def _byte_decoder() -> dict[str, int]:
    """GPT-2's printable stand-ins for bytes, inverted (openai/gpt-2 `bytes_to_unicode`)."""
    printable = [*range(ord("!"), ord("~") + 1), *range(ord("¡"), ord("¬") + 1), *range(ord("®"), ord("ÿ") + 1)]
    table = {chr(byte): byte for byte in printable}
    missing = (byte for byte in range(256) if byte not in printable)
    table.update({chr(256 + offset): byte for offset, byte in enumerate(missing)})
    return table


def read_vocabulary(tokenizer_json: Path) -> list[bytes]:
    """Return the text tokens of a Hugging Face `tokenizer.json` as bytes, in id order.

    Special tokens are left out: whisper.cpp names those above the text tokens itself.
    """
    document = json.loads(tokenizer_json.read_text(encoding="utf-8"))
    decoder = _byte_decoder()
    by_id = sorted((number, token) for token, number in document["model"]["vocab"].items())
    return [bytes(decoder[char] for char in token) for _, token in by_id if not token.startswith("<|")]


def _linear(source: dict[str, Tensor], ours: str, theirs: str) -> Iterator[tuple[str, Tensor]]:
    yield f"{ours}.weight", source[f"{theirs}/weight"]
    yield f"{ours}.bias", source[f"{theirs}/bias"]


def _norm(source: dict[str, Tensor], ours: str, theirs: str) -> Iterator[tuple[str, Tensor]]:
    yield f"{ours}.weight", source[f"{theirs}/gamma"]
    yield f"{ours}.bias", source[f"{theirs}/beta"]


def _split(source: dict[str, Tensor], theirs: str, ours: list[str]) -> Iterator[tuple[str, Tensor]]:
    """Undo CTranslate2's fusing of projections; keys have no bias in Whisper."""
    weights = np.split(source[f"{theirs}/weight"], len(ours))
    biases = np.split(source[f"{theirs}/bias"], len(ours))
    for name, weight, bias in zip(ours, weights, biases, strict=True):
        yield f"{name}.weight", weight
        if not name.endswith(".key"):
            yield f"{name}.bias", bias


def _block(source: dict[str, Tensor], side: str, index: int) -> Iterator[tuple[str, Tensor]]:
    ours, theirs = f"{side}.blocks.{index}", f"{side}/layer_{index}"
    yield from _norm(source, f"{ours}.attn_ln", f"{theirs}/self_attention/layer_norm")
    fused = [f"{ours}.attn.{name}" for name in ("query", "key", "value")]
    yield from _split(source, f"{theirs}/self_attention/linear_0", fused)
    yield from _linear(source, f"{ours}.attn.out", f"{theirs}/self_attention/linear_1")
    if side == "decoder":
        yield from _norm(source, f"{ours}.cross_attn_ln", f"{theirs}/attention/layer_norm")
        yield from _linear(source, f"{ours}.cross_attn.query", f"{theirs}/attention/linear_0")
        fused = [f"{ours}.cross_attn.{name}" for name in ("key", "value")]
        yield from _split(source, f"{theirs}/attention/linear_1", fused)
        yield from _linear(source, f"{ours}.cross_attn.out", f"{theirs}/attention/linear_2")
    yield from _norm(source, f"{ours}.mlp_ln", f"{theirs}/ffn/layer_norm")
    yield from _linear(source, f"{ours}.mlp.0", f"{theirs}/ffn/linear_0")
    yield from _linear(source, f"{ours}.mlp.2", f"{theirs}/ffn/linear_1")


def openai_tensors(source: dict[str, Tensor], dims: Dimensions) -> Iterator[tuple[str, Tensor]]:
    """Yield the tensors under OpenAI's names, as whisper.cpp looks them up."""
    yield "encoder.positional_embedding", source["encoder/position_encodings/encodings"]
    for conv in ("conv1", "conv2"):
        yield f"encoder.{conv}.weight", source[f"encoder/{conv}/weight"]
        yield f"encoder.{conv}.bias", source[f"encoder/{conv}/bias"][:, None]
    for index in range(dims.audio_layers):
        yield from _block(source, "encoder", index)
    yield from _norm(source, "encoder.ln_post", "encoder/layer_norm")
    yield "decoder.positional_embedding", source["decoder/position_encodings/encodings"]
    yield "decoder.token_embedding.weight", source["decoder/embeddings/weight"]
    for index in range(dims.text_layers):
        yield from _block(source, "decoder", index)
    yield from _norm(source, "decoder.ln", "decoder/layer_norm")


def _dimensions(source: dict[str, Tensor]) -> Dimensions:
    def layers(side: str) -> int:
        return len(
            {
                name.split("/")[1]
                for name in source
                if name.startswith(f"{side}/layer_") and "layer_norm" not in name.split("/")[1]
            }
        )

    return Dimensions(
        vocab=source["decoder/embeddings/weight"].shape[0],
        audio_state=source["encoder/conv1/weight"].shape[0],
        audio_layers=layers("encoder"),
        text_ctx=source["decoder/position_encodings/encodings"].shape[0],
        text_state=source["decoder/embeddings/weight"].shape[1],
        text_layers=layers("decoder"),
        mels=source["encoder/conv1/weight"].shape[1],
    )


def quantise_q8_0(weight: Tensor) -> bytes:
    """Pack rows into ggml `block_q8_0`: a float16 scale and 32 int8 values a block."""
    blocks = weight.reshape(-1, Q8_0_BLOCK)
    scale = np.abs(blocks).max(axis=1, keepdims=True) / 127.0
    inverse = np.divide(1.0, scale, out=np.zeros_like(scale), where=scale > 0)
    packed = np.empty(len(blocks), dtype=[("scale", "<f2"), ("values", "i1", Q8_0_BLOCK)])
    packed["scale"] = scale[:, 0]
    packed["values"] = np.rint(blocks * inverse)
    return packed.tobytes()


def _encode(name: str, tensor: Tensor, *, quantise: bool) -> tuple[int, bytes]:
    is_matrix = tensor.ndim == 2 and name.endswith(".weight")
    if is_matrix and quantise:
        return GGML_Q8_0, quantise_q8_0(tensor)
    if is_matrix or (tensor.ndim == 3 and name.endswith(".weight")):
        return GGML_F16, tensor.astype("<f2").tobytes()
    return GGML_F32, tensor.astype("<f4").tobytes()


def convert(model_bin: Path, tokenizer_json: Path, target: Path, *, quantise: bool) -> None:
    """Write `target` (GGML) from a CTranslate2 Whisper model and its tokenizer.

    `quantise` stores matrices as Q8_0 instead of float16. The file appears under its
    name only when it is complete. Raises ModelConversionError for a source that is not
    a Whisper checkpoint.
    """
    source = read_ctranslate2(model_bin)
    try:
        dims = _dimensions(source)
        tensors = list(openai_tensors(source, dims))
    except KeyError as missing:
        raise ModelConversionError(f"{model_bin} is no Whisper checkpoint: it has no {missing}") from missing
    vocabulary = read_vocabulary(tokenizer_json)
    partial = target.with_suffix(".partial")
    with partial.open("wb") as out:
        file_type = FILE_TYPE_Q8_0 if quantise else GGML_F16
        header: tuple[int, ...] = (
            dims.vocab,
            N_AUDIO_CTX,
            dims.audio_state,
            dims.audio_state // HEAD_SIZE,
            dims.audio_layers,
        )
        header += (dims.text_ctx, dims.text_state, dims.text_state // HEAD_SIZE, dims.text_layers, dims.mels, file_type)
        out.write(struct.pack("<I11i", GGML_MAGIC, *header))
        filters = mel_filters(dims.mels)
        out.write(struct.pack("<2i", *filters.shape) + filters.tobytes())
        out.write(struct.pack("<i", len(vocabulary)))
        for token in vocabulary:
            out.write(struct.pack("<I", len(token)) + token)
        for name, tensor in tensors:
            kind, payload = _encode(name, tensor, quantise=quantise)
            encoded = name.encode()
            out.write(struct.pack("<3i", tensor.ndim, len(encoded), kind))
            out.write(struct.pack(f"<{tensor.ndim}i", *reversed(tensor.shape)) + encoded + payload)
    partial.replace(target)
