"""From the text of a service's TOML settings to its model; every mistake names file, key, value and what is allowed.
Pure: reading the file stays with the service."""

import tomllib
from pathlib import PurePath
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


def parse_settings(path: PurePath, text: str, model: type[SettingsT]) -> SettingsT:
    """Validate the text of a settings file; `path` is what errors name. Raises SettingsError."""
    try:
        document = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise SettingsError(f"{path}: {error}") from error
    try:
        return model.model_validate(document)
    except ValidationError as error:
        problems = "; ".join(
            f"{'.'.join(map(str, problem['loc']))}: {problem['msg']} (got {problem['input']!r})"
            for problem in error.errors()
        )
        raise SettingsError(f"{path}: {problems}") from error
