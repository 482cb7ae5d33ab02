"""`borough identity`: the authority, certificates of services and people, rotation and revocation."""

import json
from collections.abc import Iterable
from datetime import UTC, datetime
from pathlib import Path

import click
from rich.console import Console
from rich.table import Table

from provisioning.identity.names import PersonName, PersonRole, ServiceName, ServiceRole
from provisioning.identity.store import VALID, Entry, IdentityStore

STORE_VARIABLE = "BOROUGH_IDENTITY"
DEFAULT_STORE = Path(".state/identity")
# Shown red from here on: time enough to rotate before anything stops.
EXPIRES_SOON_DAYS = 21.0
_PERSON_ROLES = tuple(str(role) for role in PersonRole)
_SERVICE_ROLES = tuple(str(role) for role in ServiceRole)

store_option = click.option(
    "--store",
    "root",
    type=click.Path(path_type=Path, file_okay=False),
    envvar=STORE_VARIABLE,
    default=DEFAULT_STORE,
    show_default=True,
    help="Folder of the authority and all certificates.",
)
json_option = click.option("--json", "as_json", is_flag=True, help="Print JSON.")


@click.group()
def identity() -> None:
    """Who is who: certificates of the hub, of nodes and of people."""


@identity.command()
@store_option
@json_option
def init(root: Path, as_json: bool) -> None:
    """Make the certificate authority and the hub's signing key."""
    store = IdentityStore(root)
    store.init(_now())
    files = {"authority": str(store.authority_file), "signing_public_key": str(store.signing_public_file)}
    click.echo(json.dumps(files) if as_json else f"{store.authority_file} trusts what this folder issues; keep it safe")


@identity.command()
@click.argument("name")
@click.option("--role", required=True, type=click.Choice([*_PERSON_ROLES, *_SERVICE_ROLES]), help="What NAME may do.")
@click.option("--address", "addresses", multiple=True, help="Host name or IP address it is reached at; repeat.")
@click.option("--days", type=click.FloatRange(min=0, min_open=True), help="How long it is valid.")
@store_option
@json_option
def issue(name: str, role: str, addresses: tuple[str, ...], days: float | None, root: Path, as_json: bool) -> None:
    """Issue a certificate to a service (SITE/NODE, such as in-south/in-south-1) or a person."""
    entry = IdentityStore(root).issue(_named(name, role), _now(), addresses=addresses, days=days)
    _print([entry], root, as_json=as_json)


@identity.command("list")
@click.option("--all", "with_old", is_flag=True, help="Also those that are replaced or revoked.")
@store_option
@json_option
def list_certificates(with_old: bool, root: Path, as_json: bool) -> None:
    """Show certificates and when they expire."""
    entries = IdentityStore(root).entries()
    _print([entry for entry in entries if with_old or entry.state in VALID], root, as_json=as_json)


@identity.command()
@click.argument("name")
@click.option("--role", required=True, type=click.Choice([*_PERSON_ROLES, *_SERVICE_ROLES]), help="Which of NAME's.")
@click.option("--switch", is_flag=True, help="Use the staged certificate from now on; the old one is valid no more.")
@store_option
@json_option
def rotate(name: str, role: str, switch: bool, root: Path, as_json: bool) -> None:
    """Stage a new certificate beside the current one; with --switch, put it in use.

    Both are valid in between. Servers learn of each step when their configuration is rendered and reloaded.
    """
    store, who = IdentityStore(root), _named(name, role)
    entry = store.switch(who) if switch else store.issue(who, _now(), addresses=store.current(who).addresses)
    _print([entry], root, as_json=as_json)


@identity.command()
@click.argument("name")
@store_option
@json_option
def revoke(name: str, root: Path, as_json: bool) -> None:
    """Revoke all certificates of a region, a node (SITE/NODE), one service (SITE/NODE/ROLE) or people/NAME.

    The hub's admin API refuses them at once, NATS servers once they are rendered again and reloaded.
    """
    _print(IdentityStore(root).revoke(name.strip("/")), root, as_json=as_json)


def _named(name: str, role: str) -> ServiceName | PersonName:
    if role in _PERSON_ROLES:
        return PersonName(name=name, role=PersonRole(role))
    site, separator, node = name.partition("/")
    if not separator:
        raise click.UsageError(f"a service is named SITE/NODE, such as in-south/in-south-1, not {name!r}")
    return ServiceName(site=site, node=node, role=ServiceRole(role))


def _print(entries: Iterable[Entry], root: Path, *, as_json: bool) -> None:
    now = _now()
    if as_json:
        click.echo(json.dumps([_row(entry, root, now) for entry in entries]))
        return
    table = Table()
    for column in ("name", "role", "generation", "state", "expires in days", "serial"):
        table.add_column(column)
    for entry in entries:
        days = entry.expires_in_days(now)
        left = f"[red]{days:.0f}[/red]" if days < EXPIRES_SOON_DAYS else f"{days:.0f}"
        table.add_row(entry.key, entry.role, str(entry.generation), str(entry.state), left, entry.serial)
    Console().print(table)


def _row(entry: Entry, root: Path, now: datetime) -> dict[str, str | int | float | bool]:
    days = entry.expires_in_days(now)
    return {
        "name": entry.key,
        "role": entry.role,
        "generation": entry.generation,
        "state": str(entry.state),
        "serial": entry.serial,
        "not_after": entry.not_after,
        "expires_in_days": round(days, 2),
        "expires_soon": days < EXPIRES_SOON_DAYS,
        "directory": str(root / entry.key / str(entry.generation)),
    }


def _now() -> datetime:
    return datetime.now(UTC)
