"""Renders the roles' templates with Ansible's own engine and the roles' own defaults."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ansible.parsing.dataloader import DataLoader  # type: ignore[import-untyped]
from ansible.plugins.loader import init_plugin_loader  # type: ignore[import-untyped]
from ansible.template import Templar, trust_as_template  # type: ignore[import-untyped]

ROLES = Path(__file__).resolve().parents[3] / "ansible" / "roles"

init_plugin_loader()


def render(role: str, template: str, variables: Mapping[str, Any]) -> str:
    """The text of a template; `variables` go before the role's defaults and constants."""
    loader = DataLoader()
    values: dict[str, Any] = {
        "ansible_managed": "by Ansible",
        "inventory_hostname": "node",
        "groups": {},
        "hostvars": {},
    }
    for folder in ("defaults", "vars"):
        path = ROLES / role / folder / "main.yml"
        if not path.exists():
            continue
        values |= loader.load_from_file(str(path), trusted_as_template=True)
    text = (ROLES / role / "templates" / template).read_text(encoding="utf-8")
    return str(Templar(loader=loader, variables=values | dict(variables)).template(trust_as_template(text)))


def role_file(role: str, name: str) -> Path:
    """A file that the role installs as it is."""
    return ROLES / role / "files" / name
