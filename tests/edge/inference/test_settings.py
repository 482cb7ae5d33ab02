"""Settings are read strictly, and an error names the file, the key and the value."""

from pathlib import Path

import pytest

from edge.inference.settings import InferenceSettings
from edge.settings_file import SettingsError, load_settings

GOOD = 'socket = "i.sock"\n[[asr]]\nmodel = "whisper-tiny.en"\n[tenant_weights]\nacme = 2\n'


def test_good_settings_have_defaults(tmp_path: Path) -> None:
    """What is left out has a value."""
    path = tmp_path / "inference.toml"
    path.write_text(GOOD)
    settings = load_settings(path, InferenceSettings)
    assert settings.asr[0].workers == 2
    assert settings.tenant_weights == {"acme": 2.0}
    assert settings.llm is None


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (GOOD + "[asrr]\n", r"inference\.toml: asrr: Extra inputs"),
        (GOOD.replace("[tenant", "worker = 3\n[tenant"), r"asr\.0\.worker"),
        (GOOD.replace("[tenant", "workers = 0\n[tenant"), r"asr\.0\.workers: .*greater than or equal to 1 \(got 0\)"),
        (GOOD.replace("= 2\n", "= -1\n"), r"tenant_weights\.acme"),
        ("socket = ", r"inference\.toml: "),
        ("", r"socket: Field required"),
        (GOOD.replace("i.sock", "x" * 120), "at most 107 bytes"),
    ],
)
def test_bad_settings_are_named(tmp_path: Path, text: str, words: str) -> None:
    """Unknown keys, values out of range, broken TOML, a socket path that no kernel takes."""
    path = tmp_path / "inference.toml"
    path.write_text(text)
    with pytest.raises(SettingsError, match=words):
        load_settings(path, InferenceSettings)


def test_missing_settings_are_named(tmp_path: Path) -> None:
    """The path is in the message."""
    with pytest.raises(SettingsError, match=r"none\.toml does not exist"):
        load_settings(tmp_path / "none.toml", InferenceSettings)
