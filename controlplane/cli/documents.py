"""`borough get|describe|history|rollback|delete`: documents that the hub has."""

from pathlib import Path

import click

from contract import admin_pb2 as pb
from contract.admin_pb2_grpc import DocumentsStub
from controlplane.cli.apply import exit_if_refused, show_outcome
from controlplane.cli.connection import WITHIN_S, HubRefusedError, admin_channel, context_option, hub_errors
from controlplane.cli.printing import age, name_of, show_json, show_table
from controlplane.cli.references import kind_of, reference

as_json_option = click.option("--json", "as_json", is_flag=True, help="Print the reply as JSON.")


@click.command()
@click.argument("kind")
@click.argument("name", required=False)
@click.option("--tenant", default="", help="Only the documents of this tenant.")
@as_json_option
@context_option
def get(kind: str, name: str | None, tenant: str, as_json: bool, context: Path | None) -> None:
    """List documents of a kind ("all" for every kind), or show one (TENANT/NAME) as YAML."""
    if name is not None:
        _show_one(reference(kind, name), as_json=as_json, context=context)
        return
    request = pb.ListRequest(kind="" if kind == "all" else kind_of(kind), tenant=tenant)
    with admin_channel(context) as channel, hub_errors():
        reply = DocumentsStub(channel).List(request, timeout=WITHIN_S)
    if as_json:
        show_json(reply)
        return
    rows = [
        (stored.document.kind, name_of(stored.document), str(stored.document.revision), age(stored.applied_at_ms))
        for stored in reply.documents
    ]
    show_table(("KIND", "NAME", "REVISION", "AGE"), rows)


@click.command()
@click.argument("kind")
@click.argument("name")
@click.option("--revision", type=click.IntRange(min=1), help="This revision instead of what holds now.")
@as_json_option
@context_option
def describe(kind: str, name: str, revision: int | None, as_json: bool, context: Path | None) -> None:
    """Show a document with its revision, who applied it and when."""
    with admin_channel(context) as channel, hub_errors():
        stored = DocumentsStub(channel).Get(reference(kind, name, revision or 0), timeout=WITHIN_S)
    if as_json:
        show_json(stored)
        return
    click.echo(f"Kind:      {stored.document.kind}")
    click.echo(f"Name:      {name_of(stored.document)}")
    click.echo(f"Revision:  {stored.document.revision}")
    click.echo(f"Applied:   {age(stored.applied_at_ms)} ago by {stored.applied_by}\n")
    click.echo(stored.yaml.decode().rstrip("\n"))


@click.command()
@click.argument("kind")
@click.argument("name")
@as_json_option
@context_option
def history(kind: str, name: str, as_json: bool, context: Path | None) -> None:
    """List the revisions of a document, newest first."""
    with admin_channel(context) as channel, hub_errors():
        reply = DocumentsStub(channel).History(reference(kind, name), timeout=WITHIN_S)
    if as_json:
        show_json(reply)
        return
    rows = [
        (
            str(stored.document.revision),
            age(stored.applied_at_ms),
            stored.applied_by,
            "applied" if stored.yaml else "deleted",
        )
        for stored in reply.revisions
    ]
    show_table(("REVISION", "AGE", "BY", "WHAT"), rows)


@click.command()
@click.argument("kind")
@click.argument("name")
@click.option("--revision", type=click.IntRange(min=1), help="To this revision; else to the one before the newest.")
@click.option("--dry-run", is_flag=True, help="Only check, and show what would change.")
@as_json_option
@context_option
def rollback(kind: str, name: str, revision: int | None, dry_run: bool, as_json: bool, context: Path | None) -> None:
    """Apply an earlier revision of a document as a new one."""
    request = pb.RollbackRequest(document=reference(kind, name, revision or 0), dry_run=dry_run)
    try:
        with admin_channel(context) as channel, hub_errors():
            reply = DocumentsStub(channel).Rollback(request, timeout=WITHIN_S)
    except HubRefusedError as error:
        exit_if_refused(error, as_json=as_json)
        raise
    show_outcome(reply, dry_run=dry_run, as_json=as_json)


@click.command()
@click.argument("kind")
@click.argument("name")
@as_json_option
@context_option
def delete(kind: str, name: str, as_json: bool, context: Path | None) -> None:
    """Take a document out; refused while another one needs it."""
    try:
        with admin_channel(context) as channel, hub_errors():
            reply = DocumentsStub(channel).Delete(pb.DeleteRequest(document=reference(kind, name)), timeout=WITHIN_S)
    except HubRefusedError as error:
        exit_if_refused(error, as_json=as_json)
        raise
    show_outcome(reply, dry_run=False, as_json=as_json)


def _show_one(ref: pb.DocumentRef, *, as_json: bool, context: Path | None) -> None:
    with admin_channel(context) as channel, hub_errors():
        stored = DocumentsStub(channel).Get(ref, timeout=WITHIN_S)
    if as_json:
        show_json(stored)
    else:
        click.echo(stored.yaml.decode().rstrip("\n"))
