"""How an admin command reaches the hub: a context file names the address and the certificates.

address = "hub.example.org:7443"
authority = "authority.pem"          # relative paths: from the folder of the context file
certificate = "people/ada/current/certificate.pem"
key = "people/ada/current/key.pem"
"""

import contextlib
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TypeVar

import click
import grpc

from contract.errors import Blame
from contract.settings import Section, SettingsError, parse_settings
from controlplane.errors import ControlPlaneError

CONTEXT_VARIABLE = "BOROUGH_CONTEXT"
DEFAULT_CONTEXT = Path(".state/run/admin.toml")
MESSAGE_BYTES = 32 * 1024 * 1024
# Of one request; an apply of a hundred tenants takes two seconds.
WITHIN_S = 30.0

Command = TypeVar("Command", bound=Callable[..., object])


class AdminContext(Section):
    """A context file. `server_name`: the name in the hub's certificate where it differs from the address."""

    address: str
    authority: Path
    certificate: Path
    key: Path
    server_name: str | None = None


class HubUnreachableError(ControlPlaneError):
    """The hub does not answer at the address of the context, or one of the certificates is not accepted."""

    code = "hub.unreachable"
    blame = Blame.REMOTE
    hint = "Is the hub running, and does the context file name its address and a certificate of its authority?"


class HubRefusedError(ControlPlaneError):
    """The hub refused a request; `code` and `hint` are those of its reason."""

    code = "hub.refused"
    blame = Blame.OPERATOR

    def __init__(self, code: str, message: str, hint: str) -> None:
        super().__init__(message, hint=hint)
        setattr(self, "code", code)  # noqa: B010 - a class variable everywhere else: here it is the hub's word


def context_option(command: Command) -> Command:
    """Adds `--context` to a command."""
    option = click.option(
        "--context",
        "context",
        type=click.Path(path_type=Path, dir_okay=False),
        help=f"Context file; else ${CONTEXT_VARIABLE}, else {DEFAULT_CONTEXT}.",
    )
    return option(command)


def admin_channel(context: Path | None = None) -> grpc.Channel:
    """A channel to the hub, to be used as a context manager. Raises SettingsError."""
    path = context or Path(os.environ.get(CONTEXT_VARIABLE, "") or DEFAULT_CONTEXT)
    settings = _load(path)
    files = [(path.parent / file) for file in (settings.authority, settings.key, settings.certificate)]
    try:
        authority, key, certificate = (file.read_bytes() for file in files)
    except OSError as error:
        raise SettingsError(f"{path}: {error.filename}: {error.strerror}") from error
    options: list[tuple[str, str | int]] = [
        ("grpc.max_receive_message_length", MESSAGE_BYTES),
        ("grpc.max_send_message_length", MESSAGE_BYTES),
    ]
    if settings.server_name is not None:
        options.append(("grpc.ssl_target_name_override", settings.server_name))
    return grpc.secure_channel(
        settings.address, grpc.ssl_channel_credentials(authority, key, certificate), options=options
    )


@contextlib.contextmanager
def hub_errors() -> Iterator[None]:
    """Turns gRPC's errors into ours: HubRefusedError with the hub's code and hint, or HubUnreachableError."""
    try:
        yield
    except grpc.RpcError as error:
        metadata = dict(error.trailing_metadata() or ())
        code = metadata.get("borough-code")
        if code is not None:
            raise HubRefusedError(code, error.details(), metadata.get("borough-hint", "")) from error
        raise HubUnreachableError(f"{error.code().name.lower()}: {error.details()}") from error


def _load(path: Path) -> AdminContext:
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError:
        raise SettingsError(f"{path} does not exist", hint="Name a context file by --context.") from None
    except (OSError, UnicodeDecodeError) as error:
        raise SettingsError(f"{path}: {error}") from error
    return parse_settings(path, text, AdminContext)
