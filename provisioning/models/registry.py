"""The models Borough knows by name, read from `registry.toml` beside this module."""

import tomllib
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import assert_never

from pydantic import BaseModel, ConfigDict, TypeAdapter, ValidationError

from contract.model_manifest import ModelEngine, ModelFile, ModelKind
from provisioning.models.errors import RegistryError, UnknownModelError

REGISTRY_PATH = Path(__file__).with_name("registry.toml")


@dataclass(frozen=True, slots=True, kw_only=True)
class PackagedFile:
    """A file made of members of the wheels, joined in order."""

    file: ModelFile
    members: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Packaged:
    """A model whose files come out of wheels, each named `package==version`."""

    packages: tuple[str, ...]
    files: tuple[PackagedFile, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Converted:
    """A model made here from the verified files of another one."""

    source: str
    recipe: str


@dataclass(frozen=True, slots=True, kw_only=True)
class RegistryEntry:
    """One model: what it is and where it comes from. `is_default` ones are fetched by `--all-default`."""

    name: str
    kind: ModelKind
    engine: ModelEngine
    languages: tuple[str, ...]
    licence: str
    note: str
    is_default: bool
    origin: Packaged | Converted

    def sources(self) -> tuple[str, ...]:
        """Return what the manifest says about where the bytes came from."""
        match self.origin:
            case Packaged():
                return tuple(f"pypi:{package}" for package in self.origin.packages)
            case Converted():
                return (f"converted:{self.origin.source}:{self.origin.recipe}",)
            case _:
                assert_never(self.origin)


class _File(BaseModel):
    model_config = ConfigDict(extra="forbid")

    name: str
    members: tuple[str, ...]
    sha256: str
    size_bytes: int


class _Model(BaseModel):
    model_config = ConfigDict(extra="forbid")

    name: str
    kind: ModelKind
    engine: ModelEngine
    licence: str
    languages: tuple[str, ...]
    is_default: bool
    note: str
    packages: tuple[str, ...] = ()
    file: tuple[_File, ...] = ()
    source: str = ""
    recipe: str = ""


_MODELS = TypeAdapter(list[_Model])


def _entry(model: _Model) -> RegistryEntry:
    origin: Packaged | Converted = Converted(source=model.source, recipe=model.recipe)
    if not model.source:
        files = tuple(
            PackagedFile(
                file=ModelFile(name=file.name, sha256=file.sha256, size_bytes=file.size_bytes), members=file.members
            )
            for file in model.file
        )
        origin = Packaged(packages=model.packages, files=files)
    return RegistryEntry(
        name=model.name,
        kind=model.kind,
        engine=model.engine,
        languages=model.languages,
        licence=model.licence,
        note=model.note,
        is_default=model.is_default,
        origin=origin,
    )


@cache
def load_registry(path: Path = REGISTRY_PATH) -> dict[str, RegistryEntry]:
    """Return all entries by name. Raises RegistryError."""
    try:
        models = _MODELS.validate_python(tomllib.loads(path.read_text(encoding="utf-8")).get("model", []))
    except (OSError, tomllib.TOMLDecodeError, ValidationError) as error:
        raise RegistryError(f"{path}: {error}") from error
    return {model.name: _entry(model) for model in models}


def find_entry(name: str) -> RegistryEntry:
    """Return the entry of this name. Raises UnknownModelError."""
    registry = load_registry()
    if name not in registry:
        known = ", ".join(sorted(registry))
        raise UnknownModelError(f"no model is called {name!r}; there are: {known}", hint="borough models list")
    return registry[name]
