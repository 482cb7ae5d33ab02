"""What an operator gets wrong in hub.toml is named; a process that cannot start says why."""

import asyncio
import sys
from pathlib import Path

import pytest

from contract.settings import SettingsError
from controlplane.settings import load_settings

HUB_TOML = """
[hub]
name = "hub-1"
[database]
path = "hub.sqlite3"
[nats]
url = "nats://127.0.0.1:4222"
[admin]
authority = "a.pem"
certificate = "c.pem"
key = "k.pem"
[signing]
key_file = "signing.pem"
"""


def write(directory: Path, text: str) -> Path:
    path = directory / "hub.toml"
    path.write_text(text)
    return path


def test_defaults_are_those_of_the_documentation(tmp_path: Path) -> None:
    settings = load_settings(write(tmp_path, HUB_TOML))
    assert (settings.lease.ttl_s, settings.fleet.health_period_s, settings.admin.port) == (5.0, 2.0, 7443)
    assert settings.inference is None


@pytest.mark.parametrize(
    ("was", "becomes", "says"),
    [
        ('name = "hub-1"', 'name = "Hub 1"', "hub.name"),
        ('name = "hub-1"', 'nam = "hub-1"', "hub.nam"),
        ("[signing]", "[lease]\nttl_s = 0.1\n[signing]", "lease.ttl_s: Input should be greater than or equal to 1"),
        ("[hub]", "[hub", "hub.toml"),
    ],
)
def test_a_mistake_names_the_key(tmp_path: Path, was: str, becomes: str, says: str) -> None:
    with pytest.raises(SettingsError, match=r"hub\.toml") as refused:
        load_settings(write(tmp_path, HUB_TOML.replace(was, becomes)))
    assert says in str(refused.value)


async def run_hub(config: Path) -> tuple[int | None, str]:
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "controlplane", "--config", str(config), stderr=asyncio.subprocess.PIPE
    )
    _, said = await asyncio.wait_for(process.communicate(), 30)
    return process.returncode, said.decode()


async def test_wrong_settings_end_with_78_and_a_hint(tmp_path: Path) -> None:
    code, said = await run_hub(tmp_path / "nowhere.toml")
    assert (code, "nowhere.toml" in said, "hint:" in said) == (78, True, True)


async def test_a_missing_signing_key_ends_with_1_and_its_code(tmp_path: Path) -> None:
    code, said = await run_hub(write(tmp_path, HUB_TOML))
    assert (code, "hub.signing_key" in said) == (1, True)
