"""Settings are read strictly, and an error names the file, the key and the value."""

from pathlib import Path

import pytest

from edge.inference.errors import InferenceSettingsError
from edge.inference.settings import load_settings

GOOD = 'socket = "i.sock"\n[[asr]]\nmodel = "whisper-tiny.en"\n[tenant_weights]\nacme = 2\n'


def test_good_settings_have_defaults(tmp_path: Path) -> None:
    """What is left out has a value."""
    path = tmp_path / "inference.toml"
    path.write_text(GOOD)
    settings = load_settings(path)
    assert settings.asr[0].workers == 2
    assert settings.tenant_weights == {"acme": 2.0}
    assert settings.llm is None


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (GOOD + "[asrr]\n", r"inference\.toml: asrr: Extra inputs"),
        (GOOD.replace("[tenant", "worker = 3\n[tenant"), r"asr\.0\.worker"),
        (GOOD.replace("[tenant", "workers = 0\n[tenant"), r"asr\.0\.workers: .*greater than or equal to 1 \(it is 0\)"),
        (GOOD.replace("= 2\n", "= -1\n"), r"tenant_weights\.acme"),
        ("socket = ", r"inference\.toml: Invalid value"),
        ("", r"socket: Field required"),
        (GOOD.replace("i.sock", "x" * 120), "at most 107 bytes"),
    ],
)
def test_bad_settings_are_named(tmp_path: Path, text: str, words: str) -> None:
    """Unknown keys, values out of range, broken TOML, a socket path that no kernel takes."""
    path = tmp_path / "inference.toml"
    path.write_text(text)
    with pytest.raises(InferenceSettingsError, match=words):
        load_settings(path)


def test_missing_settings_are_named(tmp_path: Path) -> None:
    """The path is in the message."""
    with pytest.raises(InferenceSettingsError, match=r"none\.toml is missing"):
        load_settings(tmp_path / "none.toml")
