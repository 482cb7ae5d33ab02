"""What an operator meets is documented: error codes, settings, commands."""

import importlib
import pkgutil
import re
from collections.abc import Iterator
from pathlib import Path

import click
from pydantic import BaseModel

import bench
import controlplane
import edge
import provisioning
from contract.alarms import AlarmCode
from contract.errors import BoroughError
from controlplane.cli.connection import AdminContext
from controlplane.settings import HubSettings
from edge.call.settings import CallsSettings
from edge.cli import borough
from edge.inference.settings import InferenceSettings
from edge.replication.settings import ReplicationSettings
from edge.sync.settings import SyncSettings
from provisioning.identity.authority_service.settings import AuthoritySettings
from provisioning.node.node_file import HubFile, NodeFile
from tests.ansible.observability.catalogue import registries

DOCS = Path(__file__).resolve().parents[1] / "docs"


def codes(root: type[BoroughError]) -> Iterator[str]:
    for error in root.__subclasses__():
        yield error.code
        yield from codes(error)


def setting_names(model: type[BaseModel], prefix: str = "") -> Iterator[str]:
    for name, field in model.model_fields.items():
        kinds = (field.annotation, *getattr(field.annotation, "__args__", ()))
        inner = [kind for kind in kinds if isinstance(kind, type) and issubclass(kind, BaseModel)]
        yield from setting_names(inner[0], f"{prefix}{name}.") if inner else iter([prefix + name])


def commands(command: click.Command, path: str, context: click.Context) -> Iterator[str]:
    if not isinstance(command, click.Group):
        yield path
        return
    for name in command.list_commands(context):
        inner = command.get_command(context, name)
        assert inner is not None
        yield from commands(inner, f"{path} {name}", context)


def test_every_error_code_is_documented() -> None:
    for package in (edge, controlplane, provisioning, bench):
        for module in pkgutil.walk_packages(package.__path__, f"{package.__name__}."):
            if not module.name.endswith("__main__"):
                importlib.import_module(module.name)
    page = (DOCS / "errors.md").read_text(encoding="utf-8")
    missing = {code for code in codes(BoroughError) if not code.endswith(".error") and f"`{code}`" not in page}
    assert not missing


def test_every_setting_is_documented() -> None:
    page = (DOCS / "settings.md").read_text(encoding="utf-8")
    services = (
        *(CallsSettings, InferenceSettings, SyncSettings, ReplicationSettings, HubSettings, AdminContext),
        *(NodeFile, HubFile, AuthoritySettings),
    )
    names = [name for settings in services for name in setting_names(settings)]
    assert not [name for name in names if f"`{name}`" not in page]


def test_every_alarm_is_documented() -> None:
    page = (DOCS / "alarms.md").read_text(encoding="utf-8")
    assert not [code for code in AlarmCode if f"`{code}`" not in page]


def test_every_metric_is_documented_with_its_type_and_no_other_is() -> None:
    text = (DOCS / "metrics.md").read_text(encoding="utf-8")
    rows = re.findall(r"^\| `(\w+)` \| (\w+) \| ([^|]+) \|", text, re.MULTILINE)
    exported = {family.name: family.type for registry in registries() for family in registry.collect()}
    assert {name: kind for name, kind, _ in rows} == exported


def test_every_command_is_documented() -> None:
    page = (DOCS / "commands.md").read_text(encoding="utf-8")
    paths = list(commands(borough, "borough", click.Context(borough)))
    assert len(paths) > 10
    assert not [path for path in paths if f"`{path}`" not in page]
