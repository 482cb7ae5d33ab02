"""Reads a service's TOML settings once at start; every mistake names file, key, value and what is allowed."""

import tomllib
from pathlib import Path
from typing import TypeVar

from pydantic import BaseModel, ConfigDict, ValidationError

from contract.errors import Blame, BoroughError


class SettingsError(BoroughError):
    """The settings file is missing, is no TOML, or holds a key or value that is not allowed."""

    code = "settings.invalid"
    blame = Blame.OPERATOR
    hint = "Mend the named key; docs/settings.md lists them all."


class Section(BaseModel):
    """Base of settings sections: unknown keys are errors, values never change after loading."""

    model_config = ConfigDict(extra="forbid", frozen=True)


SettingsT = TypeVar("SettingsT", bound=Section)


def load_settings(path: Path, model: type[SettingsT]) -> SettingsT:
    """Load and validate a settings file. Raises SettingsError."""
    try:
        document = tomllib.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise SettingsError(f"{path} does not exist") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise SettingsError(f"{path}: {error}") from error
    try:
        return model.model_validate(document)
    except ValidationError as error:
        problems = "; ".join(
            f"{'.'.join(map(str, problem['loc']))}: {problem['msg']} (got {problem['input']!r})"
            for problem in error.errors()
        )
        raise SettingsError(f"{path}: {problems}") from error
