"""`borough models`: list, fetch, verify, import."""

import json
from pathlib import Path

import click
from rich.console import Console
from rich.table import Table

from contract.model_manifest import ModelKind, ModelManifest
from provisioning.models.fetching import fetch
from provisioning.models.importing import ENGINES, ImportOrder, import_file
from provisioning.models.registry import find_entry, load_registry
from provisioning.models.store import DEFAULT_STORE, STORE_VARIABLE, ModelStore

_errors = Console(stderr=True)


@click.group()
def models() -> None:
    """Models of this node: fetch, verify and import them."""


store_option = click.option(
    "--store",
    "root",
    type=click.Path(path_type=Path, file_okay=False),
    envvar=STORE_VARIABLE,
    default=DEFAULT_STORE,
    show_default=True,
    help="Directory of the models.",
)
json_option = click.option("--json", "as_json", is_flag=True, help="Print JSON.")


@models.command("list")
@store_option
@json_option
def list_models(root: Path, as_json: bool) -> None:
    """Show the models known by name and those in the store."""
    rows = _rows(ModelStore(root=root))
    if as_json:
        click.echo(json.dumps(rows))
        return
    table = Table()
    for column in ("name", "kind", "engine", "languages", "licence", "here", "what"):
        table.add_column(column, no_wrap=column == "name")
    for row in rows:
        table.add_row(*(str(value) for value in row.values()))
    Console().print(table)


def _rows(store: ModelStore) -> list[dict[str, str | bool]]:
    here = set(store.names())
    rows: list[dict[str, str | bool]] = []
    for entry in load_registry().values():
        row = {"name": entry.name, "kind": entry.kind, "engine": entry.engine, "languages": " ".join(entry.languages)}
        rows.append({**row, "licence": entry.licence, "here": entry.name in here, "what": entry.note})
    for name in sorted(here - set(load_registry())):
        manifest = store.manifest(name)
        row = {
            "name": name,
            "kind": manifest.kind,
            "engine": manifest.engine,
            "languages": " ".join(manifest.languages),
        }
        rows.append({**row, "licence": manifest.licence, "here": True, "what": " ".join(manifest.sources)})
    return rows


@models.command("fetch")
@click.argument("names", nargs=-1)
@click.option("--all-default", is_flag=True, help="Fetch every model a node uses by default.")
@store_option
@json_option
def fetch_models(names: tuple[str, ...], all_default: bool, root: Path, as_json: bool) -> None:
    """Download, verify and, where needed, convert models; whole ones are left as they are."""
    wanted = list(names) + [entry.name for entry in load_registry().values() if all_default and entry.is_default]
    if not wanted:
        raise click.UsageError("name a model or give --all-default")
    store = ModelStore(root=root)
    for name in wanted:
        find_entry(name)
    for name in dict.fromkeys(wanted):
        with _errors.status(name) as status:
            manifest = fetch(store, name, status.update)
        _print_manifest(manifest, as_json=as_json)


@models.command("verify")
@click.argument("names", nargs=-1)
@store_option
@json_option
def verify_models(names: tuple[str, ...], root: Path, as_json: bool) -> None:
    """Hash every file of the models named, or of all in the store."""
    store = ModelStore(root=root)
    for name in names or store.names():
        _print_manifest(store.verify(name), as_json=as_json)


@models.command("import")
@click.argument("path", type=click.Path(path_type=Path, exists=True, dir_okay=False))
@click.option("--kind", type=click.Choice([kind.value for kind in ENGINES]), required=True)
@click.option("--name", help="Name for settings; the file's own by default.")
@click.option("--language", "languages", multiple=True, default=("*",), show_default=True, help="BCP 47; repeatable.")
@click.option("--licence", default="operator's own", show_default=True)
@store_option
@json_option
def import_model(  # noqa: PLR0913, PLR0917 - one argument an option
    path: Path, kind: str, name: str | None, languages: tuple[str, ...], licence: str, root: Path, as_json: bool
) -> None:
    """Copy a GGUF (llm), GGML (asr) or Piper voice (tts) into the store."""
    order = ImportOrder(path=path, kind=ModelKind(kind), name=name or path.stem, languages=languages, licence=licence)
    _print_manifest(import_file(ModelStore(root=root), order), as_json=as_json)


def _print_manifest(manifest: ModelManifest, *, as_json: bool) -> None:
    size_bytes = sum(file.size_bytes for file in manifest.files)
    if as_json:
        click.echo(json.dumps({"name": manifest.name, "engine": manifest.engine, "size_bytes": size_bytes}))
    else:
        click.echo(f"{manifest.name}: {len(manifest.files)} files, {size_bytes / 1e6:.1f} MB, verified")
