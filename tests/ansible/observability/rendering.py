"""The role's templates as a hub and a region of three nodes get them, by Ansible itself."""

import json
import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[3]
ROLE = ROOT / "ansible" / "roles" / "observability"
PLAY = ROOT / "tests" / "ansible" / "observability" / "render.yml"
WITHIN_S = 120

INVENTORY = """
all:
  vars:
    ansible_connection: local
    ansible_python_interpreter: {python}
    borough_region: in-south
    borough_node: "{{{{ inventory_hostname }}}}"
    borough_workers: 2
hub:
  hosts:
    hub-1: {{borough_address: 10.77.0.2}}
nodes:
  hosts:
    in-south-1: {{borough_address: 10.77.0.11}}
    in-south-2: {{borough_address: 10.77.0.12}}
    in-south-3: {{borough_address: 10.77.0.13, borough_workers: 3}}
"""


def render(directory: Path, **variables: object) -> Path:
    """Render every template for every host into `directory`/HOST/TEMPLATE; returns `directory`."""
    inventory = directory / "hosts.yml"
    inventory.write_text(INVENTORY.format(python=sys.executable), encoding="utf-8")
    extra = {"out": str(directory), "role": str(ROLE), **variables}
    environment = {**os.environ, "ANSIBLE_HOME": str(directory / ".ansible"), "ANSIBLE_LOCALHOST_WARNING": "False"}
    done = subprocess.run(
        [Path(sys.executable).parent / "ansible-playbook", "-i", inventory, "-e", json.dumps(extra), PLAY],
        capture_output=True,
        text=True,
        timeout=WITHIN_S,
        check=False,
        cwd=directory,
        env=environment,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return directory
