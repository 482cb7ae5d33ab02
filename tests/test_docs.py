"""What an operator meets is documented: error codes, settings, commands."""

import importlib
import pkgutil
from collections.abc import Iterator
from pathlib import Path

import click
from pydantic import BaseModel

import bench
import edge
import provisioning
from contract.errors import BoroughError
from edge.call.settings import CallsSettings
from edge.cli import borough
from edge.inference.settings import InferenceSettings

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
    for package in (edge, provisioning, bench):
        for module in pkgutil.walk_packages(package.__path__, f"{package.__name__}."):
            if not module.name.endswith("__main__"):
                importlib.import_module(module.name)
    page = (DOCS / "errors.md").read_text(encoding="utf-8")
    missing = {code for code in codes(BoroughError) if not code.endswith(".error") and f"`{code}`" not in page}
    assert not missing


def test_every_setting_is_documented() -> None:
    page = (DOCS / "settings.md").read_text(encoding="utf-8")
    names = [*setting_names(CallsSettings), *setting_names(InferenceSettings)]
    assert not [name for name in names if f"`{name}`" not in page]


def test_every_command_is_documented() -> None:
    page = (DOCS / "commands.md").read_text(encoding="utf-8")
    paths = list(commands(borough, "borough", click.Context(borough)))
    assert len(paths) > 10
    assert not [path for path in paths if f"`{path}`" not in page]
