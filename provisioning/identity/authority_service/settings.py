"""Settings of the authority, from `authority.toml`. pydantic stays in here."""

from pathlib import Path

from pydantic import Field

from contract.settings import Section, SettingsError, parse_settings


class AuthoritySection(Section):
    store: Path = Field(description="folder of the authority and all certificates")
    socket: Path = Field(description="unix socket that the control plane asks at; its folder says who may")


class MetricsSection(Section):
    host: str = Field(default="127.0.0.1", description="address of /metrics")
    port: int = Field(ge=0, le=65535, description="port of /metrics")


class AuthoritySettings(Section):
    authority: AuthoritySection
    metrics: MetricsSection


def load_settings(path: Path) -> AuthoritySettings:
    """Read `authority.toml`. Raises SettingsError."""
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise SettingsError(f"{path}: {error}") from error
    return parse_settings(path, text, AuthoritySettings)
