"""Convert a BERT sentence encoder from safetensors to CTranslate2, without torch.

CTranslate2 runs it with int8 matrices on the CPU, so that speech and text share one engine.
Sources: safetensors' README (layout of the file) and CTranslate2 `converters/transformers.py` (`BertLoader`).
"""

import json
from pathlib import Path

import numpy as np
from ctranslate2.converters.utils import fuse_linear
from ctranslate2.specs import common_spec, transformer_spec
from numpy.typing import NDArray

from provisioning.models.errors import ModelConversionError

Tensor = NDArray[np.float32]
_DTYPES: dict[str, np.dtype[np.generic]] = {"F32": np.dtype("<f4"), "F16": np.dtype("<f2"), "I64": np.dtype("<i8")}


def read_safetensors(path: Path) -> dict[str, Tensor]:
    """Return every tensor as float32. Raises ModelConversionError when the file is not what it should be."""
    raw = path.read_bytes()
    head_bytes = int.from_bytes(raw[:8], "little")
    body = memoryview(raw)[8 + head_bytes :]
    tensors: dict[str, Tensor] = {}
    try:
        header = json.loads(raw[8 : 8 + head_bytes])
        for name, entry in header.items():
            if name == "__metadata__":
                continue
            start, end = entry["data_offsets"]
            values = np.frombuffer(body[start:end], dtype=_DTYPES[entry["dtype"]])
            tensors[name] = values.reshape(entry["shape"]).astype(np.float32)
    except (KeyError, ValueError) as error:
        raise ModelConversionError(f"{path} is no complete safetensors file: {error}") from error
    return tensors


def _linear(spec: common_spec.LinearSpec, tensors: dict[str, Tensor], name: str) -> None:
    spec.weight = tensors[f"{name}.weight"]
    spec.bias = tensors[f"{name}.bias"]


def _norm(spec: common_spec.LayerNormSpec, tensors: dict[str, Tensor], name: str) -> None:
    spec.gamma = tensors[f"{name}.weight"]
    spec.beta = tensors[f"{name}.bias"]


def _layer(spec: transformer_spec.TransformerEncoderLayerSpec, tensors: dict[str, Tensor], name: str) -> None:
    projections = [common_spec.LinearSpec() for _ in range(3)]
    for projection, part in zip(projections, ("query", "key", "value"), strict=True):
        _linear(projection, tensors, f"{name}.attention.self.{part}")
    fuse_linear(spec.self_attention.linear[0], projections)
    _linear(spec.self_attention.linear[1], tensors, f"{name}.attention.output.dense")
    _norm(spec.self_attention.layer_norm, tensors, f"{name}.attention.output.LayerNorm")
    _linear(spec.ffn.linear_0, tensors, f"{name}.intermediate.dense")
    _linear(spec.ffn.linear_1, tensors, f"{name}.output.dense")
    _norm(spec.ffn.layer_norm, tensors, f"{name}.output.LayerNorm")


def convert(weights: Path, config: Path, tokenizer: Path, target: Path) -> None:
    """Write CTranslate2's files into the directory `target`. Raises ModelConversionError."""
    tensors = read_safetensors(weights)
    shape = json.loads(config.read_text(encoding="utf-8"))
    encoder = transformer_spec.TransformerEncoderSpec(
        shape["num_hidden_layers"],
        shape["num_attention_heads"],
        pre_norm=False,
        activation=common_spec.Activation.GELU,
        layernorm_embedding=True,
        num_source_embeddings=2,
        embeddings_merge=common_spec.EmbeddingsMerge.ADD,
    )
    encoder.scale_embeddings = False
    spec = transformer_spec.TransformerEncoderModelSpec(encoder)
    try:
        encoder.embeddings[0].weight = tensors["embeddings.word_embeddings.weight"]
        encoder.embeddings[1].weight = tensors["embeddings.token_type_embeddings.weight"]
        encoder.position_encodings.encodings = tensors["embeddings.position_embeddings.weight"]
        _norm(encoder.layernorm_embedding, tensors, "embeddings.LayerNorm")
        for index, layer in enumerate(encoder.layer):
            _layer(layer, tensors, f"encoder.layer.{index}")
    except KeyError as missing:
        raise ModelConversionError(f"{weights} is no BERT encoder: it has no {missing}") from missing
    vocabulary = json.loads(tokenizer.read_text(encoding="utf-8"))["model"]["vocab"]
    spec.register_vocabulary(sorted(vocabulary, key=vocabulary.__getitem__))
    spec.config.unk_token = "[UNK]"  # noqa: S105 - a token of the vocabulary
    spec.config.layer_norm_epsilon = shape["layer_norm_eps"]
    spec.validate()
    spec.optimize(quantization="float16")
    spec.save(str(target))
