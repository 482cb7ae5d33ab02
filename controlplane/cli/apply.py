"""`borough apply`: documents from files to the hub."""

import json
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path

import click

from contract import admin_pb2 as pb
from contract.admin_pb2_grpc import DocumentsStub
from controlplane.cli.connection import WITHIN_S, HubRefusedError, admin_channel, context_option, hub_errors
from controlplane.cli.node_check import node_problems
from controlplane.cli.printing import name_of, show_json
from controlplane.errors import DocumentsRefusedError

# As `borough agent validate`: the documents are wrong.
EXIT_REFUSED = 2
# Items of knowledge are no documents; `borough knowledge` reads them.
KNOWLEDGE_FOLDER = "knowledge"
WORDS = {
    pb.CHANGE_UNCHANGED: "unchanged",
    pb.CHANGE_CREATED: "created",
    pb.CHANGE_UPDATED: "updated",
    pb.CHANGE_DELETED: "deleted",
}


@click.command()
@click.option(
    "--file", "-f", "paths", multiple=True, required=True, type=click.Path(exists=True, path_type=Path),
    help="File, or folder with all below it (folders called knowledge are left out); may come several times.",
)  # fmt: skip
@click.option("--dry-run", is_flag=True, help="Only check, and show what would change.")
@click.option("--prune", is_flag=True, help="Delete stored documents of these tenants that the files do not hold.")
@click.option("--no-check", is_flag=True, help="Send without asking whether a node could serve the documents.")
@click.option("--json", "as_json", is_flag=True, help="Print the reply as JSON.")
@context_option
def apply(
    paths: tuple[Path, ...], dry_run: bool, prune: bool, no_check: bool, as_json: bool, context: Path | None
) -> None:
    """Store documents at the hub, all or nothing, and send them to their regions."""
    documents = [pb.SourceDocument(file=str(path), yaml=path.read_bytes()) for path in _files(paths)]
    if not documents:
        raise click.UsageError("there is no *.yaml file")
    request = pb.ApplyRequest(documents=documents, dry_run=dry_run, prune=prune)
    try:
        with admin_channel(context) as channel, hub_errors():
            stub = DocumentsStub(channel)
            if not no_check:
                _check(request, stub)
            reply = stub.Apply(request, timeout=WITHIN_S)
    except HubRefusedError as error:
        exit_if_refused(error, as_json=as_json)
        raise
    show_outcome(reply, dry_run=dry_run, as_json=as_json)


def _check(request: pb.ApplyRequest, stub: DocumentsStub) -> None:
    """Raises HubRefusedError as the hub would, if a node could not serve the documents."""

    def stored(tenant: str) -> Sequence[pb.StoredDocument]:
        return () if request.prune else stub.List(pb.ListRequest(tenant=tenant), timeout=WITHIN_S).documents

    problems = node_problems(request.documents, stored)
    if problems:
        hint = f"{DocumentsRefusedError.hint} Nothing was sent; --no-check sends it all the same."
        raise HubRefusedError(DocumentsRefusedError.code, "\n".join(map(str, problems)), hint)


def exit_if_refused(error: HubRefusedError, *, as_json: bool) -> None:
    """Show documents that are wrong, and end with exit code 2; other refusals are left to the caller."""
    if error.code != DocumentsRefusedError.code:
        return
    if as_json:
        report = {"error": {"code": error.code, "message": str(error), "hint": error.hint}}
        click.echo(json.dumps(report), err=True)
    else:
        click.echo(str(error), err=True)
        click.echo(f"hint: {error.hint}", err=True)
    sys.exit(EXIT_REFUSED)


def show_outcome(reply: pb.ApplyReply, *, dry_run: bool, as_json: bool) -> None:
    """What changed, which regions get a new bundle, and warnings."""
    if as_json:
        show_json(reply)
        return
    for change in reply.changes:
        if dry_run and change.diff:
            click.echo(change.diff.rstrip("\n"))
        kind = change.document.kind.lower()
        click.echo(f"{kind}/{name_of(change.document)} {WORDS[change.change]}{' (dry run)' if dry_run else ''}")
    for bundle in reply.bundles:
        told = "would get" if dry_run else "gets"
        click.echo(f"region {bundle.region} {told} bundle {bundle.version} ({bundle.content_bytes} bytes)")
    for finding in reply.findings:
        where = f"{finding.document.kind.lower()}/{name_of(finding.document)}"
        click.echo(f"{finding.severity}: {where}: {finding.key}: {finding.message} [{finding.rule}]", err=True)


def _files(paths: Iterable[Path]) -> list[Path]:
    found: dict[Path, None] = {}
    for path in paths:
        inside = sorted(path.rglob("*.yaml")) if path.is_dir() else [path]
        found |= {file: None for file in inside if KNOWLEDGE_FOLDER not in file.relative_to(path).parts[:-1]}
    return list(found)
