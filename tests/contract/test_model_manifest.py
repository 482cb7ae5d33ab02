"""`model.json` is read as it was written, and a malformed one is refused with a reason."""

import json

import pytest

from contract.model_manifest import (
    MalformedManifestError,
    ModelEngine,
    ModelFile,
    ModelKind,
    ModelManifest,
    dump_manifest,
    parse_manifest,
)

MANIFEST = ModelManifest(
    name="x",
    kind=ModelKind.TTS,
    engine=ModelEngine.PIPER,
    languages=("en-US", "de"),
    licence="MIT",
    sources=("pypi:x==1",),
    files=(ModelFile(name="a.onnx", sha256="0" * 64, size_bytes=5),),
)


def test_manifest_round_trips() -> None:
    """parse(dump(m)) is m."""
    assert parse_manifest(dump_manifest(MANIFEST)) == MANIFEST


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("schema", 2),
        ("kind", "soup"),
        ("engine", "steam"),
        ("files", []),
        ("files", [{"name": "../x", "sha256": "0", "size_bytes": 1}]),
        ("files", [{"name": ".x", "sha256": "0", "size_bytes": 1}]),
        ("files", [{"name": "x"}]),
        ("languages", None),
    ],
)
def test_malformed_manifest_is_refused(key: str, value: object) -> None:
    """A wrong field raises MalformedManifestError; a file outside the directory is never accepted."""
    fields = json.loads(dump_manifest(MANIFEST))
    fields[key] = value
    with pytest.raises(MalformedManifestError):
        parse_manifest(json.dumps(fields))


@pytest.mark.parametrize("text", ["", "[]", "{", "null"])
def test_text_that_is_no_manifest_is_refused(text: str) -> None:
    """Truncated or foreign JSON raises MalformedManifestError."""
    with pytest.raises(MalformedManifestError):
        parse_manifest(text)
