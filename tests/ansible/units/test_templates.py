"""Units as the roles write them for nodes and hubs, without a machine: what they are given, whom they reach."""

import shutil
import subprocess
from pathlib import Path

import pytest
import yaml

from tests.ansible.front_door.roles import ROLES, render

SHARED = yaml.safe_load((ROLES / "services" / "vars" / "main.yml").read_text("utf-8"))
ADDRESSES = {"in-south-1": "10.20.0.11", "in-south-2": "10.20.0.12"}
MOST_EXPOSURE = 2.0
ANALYZE = shutil.which("systemd-analyze") or ""


def unit(role: str, name: str, kind: str = "node") -> str:
    """The text of a unit in a region of two."""
    facts = {
        "services_kind": kind,
        "groups": {"nodes": list(ADDRESSES), "hub": ["hub-1"]},
        "hostvars": {node: {"borough_address": address} for node, address in ADDRESSES.items()},
    }
    return render(role, f"{name}.j2", {**SHARED, **facts})


def directives(text: str, name: str) -> list[str]:
    return [line.partition("=")[2] for line in text.splitlines() if line.startswith(f"{name}=")]


UNITS = {"inference": "borough-inference.service", "calls": "borough-calls@.service"}


@pytest.mark.parametrize(("role", "name"), UNITS.items())
def test_a_node_without_a_certificate_starts_its_units(role: str, name: str) -> None:
    """A file that LoadCredential misses fails the unit, unless SetCredential has a word for it; secrets have none."""
    text = unit(role, name)
    loaded = dict(line.split(":", 1) for line in directives(text, "LoadCredential"))
    fallbacks = dict(line.split(":", 1) for line in directives(text, "SetCredential"))
    identity = {name for name, path in loaded.items() if path.startswith("/etc/borough/identity/")}
    assert identity == {"authority.pem", f"{role}.pem", f"{role}.key"}
    assert fallbacks == dict.fromkeys(identity, "none")
    assert loaded[f"{role}.key"] == f"/etc/borough/identity/{role}/current/key.pem"


def test_inference_reaches_its_siblings_and_nobody_else() -> None:
    """That of a hub reaches nobody."""
    assert directives(unit("inference", UNITS["inference"]), "IPAddressAllow") == ["localhost 10.20.0.11 10.20.0.12"]
    hub = unit("inference", UNITS["inference"], "hub")
    assert directives(hub, "IPAddressAllow") == ["localhost"]
    assert "Credential" not in hub


@pytest.mark.skipif(not ANALYZE, reason="systemd-analyze is not installed")
@pytest.mark.parametrize(("role", "name"), UNITS.items())
def test_units_are_confined(role: str, name: str, tmp_path: Path) -> None:
    """systemd's own judge, as on a machine."""
    path = tmp_path / name.replace("@.", "@1.")
    path.write_text(unit(role, name), encoding="utf-8")
    judged = subprocess.run(
        [ANALYZE, "security", "--offline=yes", "--no-pager", f"--threshold={MOST_EXPOSURE * 10:.0f}", path],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert judged.returncode == 0, judged.stdout[-300:] + judged.stderr
