"""Recipes that make a model from another one's files: (source directory, target directory, name) -> files made."""

import shutil
from collections.abc import Callable, Mapping
from pathlib import Path

from provisioning.models import bert_ctranslate2, whisper_ggml

Recipe = Callable[[Path, Path, str], tuple[str, ...]]


def _whisper_q8_0(source: Path, target: Path, name: str) -> tuple[str, ...]:
    whisper_ggml.convert(source / "model.bin", source / "tokenizer.json", target / f"{name}.bin", quantise=True)
    return (f"{name}.bin",)


def _whisper_f16(source: Path, target: Path, name: str) -> tuple[str, ...]:
    whisper_ggml.convert(source / "model.bin", source / "tokenizer.json", target / f"{name}.bin", quantise=False)
    return (f"{name}.bin",)


def _bert(source: Path, target: Path, name: str) -> tuple[str, ...]:  # noqa: ARG001 - CTranslate2 names the files
    bert_ctranslate2.convert(source / "model.safetensors", source / "config.json", source / "tokenizer.json", target)
    shutil.copyfile(source / "tokenizer.json", target / "tokenizer.json")
    return ("model.bin", *sorted(path.name for path in target.iterdir() if path.name != "model.bin"))


RECIPES: Mapping[str, Recipe] = {
    "whisper-ggml-q8_0": _whisper_q8_0,
    "whisper-ggml-f16": _whisper_f16,
    "bert-ctranslate2": _bert,
}
