"""`borough build`: the store from which nodes and hubs are installed."""

import json
import tempfile
from dataclasses import asdict
from pathlib import Path

import click
from rich.console import Console

from provisioning.build_store.errors import NodeImageError
from provisioning.build_store.manifest import Manifest, verify_store
from provisioning.build_store.node_image import ImageOrder, build_image
from provisioning.build_store.root import REPOSITORY
from provisioning.build_store.store import Order, build_store
from provisioning.build_store.trial import try_image

json_option = click.option("--json", "as_json", is_flag=True, help="Print JSON.")
file_type = click.Path(path_type=Path, exists=True, dir_okay=False)
folder_type = click.Path(path_type=Path, file_okay=False)


@click.group(invoke_without_command=True)
@click.option("--out", type=folder_type, help="Folder of the store.")
@click.option("--sign-key", type=file_type, help="Ed25519 private key in PEM; without it the store is not signed.")
@click.option("--release-version", "version", default="", help="Name of the release; by default made of the commit.")
@click.option("--fresh", is_flag=True, help="Ask the mirror for Debian packages again, for security updates.")
@click.option(
    "--state", type=folder_type, default=REPOSITORY / ".state", help="Folder of models, images and the cache."
)
@json_option
@click.pass_context
def build(  # noqa: PLR0913, PLR0917 - one argument an option
    context: click.Context,
    out: Path | None,
    sign_key: Path | None,
    version: str,
    fresh: bool,
    state: Path,
    as_json: bool,
) -> None:
    """Make the store that nodes and hubs are installed from: wheels, Debian packages, Asterisk, models."""
    if context.invoked_subcommand is not None:
        return
    if out is None:
        raise click.UsageError("name the folder of the store: borough build --out DIR")
    order = Order(
        repository=REPOSITORY,
        state=state.resolve(),
        out=out.resolve(),
        sign_key=sign_key,
        version=version,
        is_fresh=fresh,
    )
    console = Console(stderr=True, quiet=as_json)
    with console.status("Building") as status:
        manifest = build_store(order, status.update)
    _print(manifest, out, as_json=as_json)


@build.command()
@click.option("--store", type=folder_type, required=True, help="Build store whose release the image carries.")
@click.option("--out", type=folder_type, required=True, help="Folder of the image.")
@click.option("--sign-key", type=file_type, help="Ed25519 private key in PEM; without it the image is not signed.")
@click.option("--state", type=folder_type, default=REPOSITORY / ".state", help="Folder of roots and the machine.")
@json_option
def image(store: Path, out: Path, sign_key: Path | None, state: Path, as_json: bool) -> None:
    """Make the raw disk image that a node can start from: all software of a store, no identity."""
    order = ImageOrder(store=store.resolve(), state=state.resolve(), out=out.resolve(), sign_key=sign_key)
    with Console(stderr=True, quiet=as_json).status("Making the image") as status:
        manifest = build_image(order, status.update)
    _print(manifest, out, as_json=as_json)


@build.command("try")
@click.argument("directory", type=click.Path(path_type=Path, exists=True, file_okay=False))
@click.option("--key", type=file_type, help="Public half of the signing key, in PEM.")
@json_option
def try_(directory: Path, key: Path | None, as_json: bool) -> None:
    """Boot an image in an emulated machine and have it test itself, as far as that needs no hub."""
    console = Console(stderr=True, quiet=as_json)
    with tempfile.TemporaryDirectory(prefix=".trial-", dir=directory) as scratch, console.status("") as status:
        result = try_image(directory, Path(scratch) / "machine", status.update, key)
    if as_json:
        click.echo(json.dumps({"passed": not result.failed, **asdict(result)}))
    else:
        click.echo(f"login after {result.seconds_to_login} s")
        for finding in result.findings:
            word = "passed" if finding.is_passed else "FAILED"
            click.echo(f"{word:<8}{finding.name:<24}{finding.detail} ({finding.took_s} s)")
    if result.failed:
        raise NodeImageError(f"the image did not pass: {', '.join(result.failed)}")


@build.command()
@click.argument("directory", type=click.Path(path_type=Path, exists=True, file_okay=False))
@click.option("--key", type=file_type, help="Public half of the signing key, in PEM.")
@json_option
def verify(directory: Path, key: Path | None, as_json: bool) -> None:
    """Hash every file of a store; with a key check that its holder signed it."""
    _print(verify_store(directory, key), directory, as_json=as_json)


def _print(manifest: Manifest, directory: Path, *, as_json: bool) -> None:
    size_bytes = sum(file.bytes for file in manifest.files)
    if as_json:
        facts = {"store": str(directory), "version": manifest.version, "commit": manifest.commit, "bytes": size_bytes}
        click.echo(json.dumps(facts))
        return
    click.echo(
        f"{directory}: Borough {manifest.version}, {size_bytes / 1e9:.2f} GB, {len(manifest.packages)} packages, "
        f"{len(manifest.models)} models, Asterisk {manifest.asterisk['version']}"
    )
