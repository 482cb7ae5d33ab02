"""`borough admin`: the hub's own books."""

import sys
from pathlib import Path

import click

from contract import admin_pb2 as pb
from contract.admin_pb2_grpc import AuditStub
from controlplane.cli.connection import WITHIN_S, admin_channel, context_option, hub_errors
from controlplane.cli.printing import age, show_json, show_table

EXIT_BROKEN = 1
as_json_option = click.option("--json", "as_json", is_flag=True, help="Print the reply as JSON.")


@click.group()
def admin() -> None:
    """The hub itself."""


@admin.group()
def audit() -> None:
    """Who did what at the hub."""


@audit.command("list")
@click.option("--limit", type=click.IntRange(min=1, max=10_000), default=50, show_default=True)
@as_json_option
@context_option
def list_entries(limit: int, as_json: bool, context: Path | None) -> None:
    """Show the newest entries first."""
    with admin_channel(context) as channel, hub_errors():
        reply = AuditStub(channel).List(pb.AuditRequest(limit=limit), timeout=WITHIN_S)
    if as_json:
        show_json(reply)
        return
    rows = [
        (str(entry.seq), age(entry.at_ms), entry.actor, entry.role, entry.action, entry.object, entry.outcome)
        for entry in reply.entries
    ]
    show_table(("SEQ", "AGE", "WHO", "ROLE", "DID", "WHAT", "OUTCOME"), rows)


@audit.command()
@as_json_option
@context_option
def verify(as_json: bool, context: Path | None) -> None:
    """Check the chain of entries; exit code 1 when it is broken."""
    with admin_channel(context) as channel, hub_errors():
        reply = AuditStub(channel).Verify(pb.AuditVerifyRequest(), timeout=WITHIN_S)
    if as_json:
        show_json(reply)
    elif reply.first_broken_seq:
        click.echo(f"broken at entry {reply.first_broken_seq}", err=True)
    else:
        click.echo(f"{reply.entries} entries, the chain is whole")
    if reply.first_broken_seq:
        sys.exit(EXIT_BROKEN)
