"""Reads a service's TOML settings once at start."""

from pathlib import Path

from contract.settings import Section, SettingsError, SettingsT, parse_settings

__all__ = ["Section", "SettingsError", "load_settings"]


def load_settings(path: Path, model: type[SettingsT]) -> SettingsT:
    """Load and validate a settings file. Raises SettingsError."""
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError:
        raise SettingsError(f"{path} does not exist") from None
    except UnicodeDecodeError as error:
        raise SettingsError(f"{path}: {error}") from error
    return parse_settings(path, text, model)
