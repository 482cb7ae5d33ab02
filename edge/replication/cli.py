"""`borough records`: bring back the records of a node that was lost."""

import asyncio
import dataclasses
import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

import click

from contract.litestream_config import NatsAccess
from edge.records.database import DatabaseSettings
from edge.records.verification import Verdict
from edge.replication.restore import RestoreOrder, RestoreReport, restore, restore_ledger

EXIT_BROKEN = 1


Command = TypeVar("Command", bound=Callable[..., None])


def _nats_options(command: Command) -> Command:
    """How to reach the region, for every command that reads replicas."""
    path = click.Path(exists=True, path_type=Path)
    options = (
        click.option(
            "--nats", "url", default="nats://127.0.0.1:4222", show_default=True, help="A server of the region."
        ),
        click.option("--ca", type=path, help="What the server's certificate is checked with."),
        click.option("--certificate", type=path, help="Client certificate (the agent's)."),
        click.option("--key", type=path, help="Its private key."),
    )
    for option in reversed(options):
        command = option(command)
    return command


def _access(url: str, ca: Path | None, certificate: Path | None, key: Path | None) -> NatsAccess:
    return NatsAccess(
        url=url,
        authority=str(ca) if ca else None,
        certificate=str(certificate) if certificate else None,
        key=str(key) if key else None,
    )


@click.group()
def records() -> None:
    """The records of calls."""


@records.command("restore")
@click.option("--tenant", required=True, help="Whose records.")
@click.option("--from-node", required=True, help="The node that wrote them.")
@click.option("--to", "target", required=True, type=click.Path(path_type=Path), help="Folder to restore into.")
@_nats_options
@click.option("--master-key", type=click.Path(path_type=Path), help="Master keys, the lost node's among them.")
@click.option("--json", "as_json", is_flag=True, help="Print the report as JSON.")
def restore_command(  # noqa: PLR0913, PLR0917 - one parameter an option
    tenant: str,
    from_node: str,
    target: Path,
    url: str,
    ca: Path | None,
    certificate: Path | None,
    key: Path | None,
    master_key: Path | None,
    as_json: bool,
) -> None:
    """Restore a tenant's databases from their replica, verify them, and tell the audit chain."""
    order = RestoreOrder(
        tenant=tenant,
        from_node=from_node,
        target=target,
        nats=_access(url, ca, certificate, key),
        database=DatabaseSettings(master_key_file=master_key),
    )
    report = asyncio.run(restore(order))
    if as_json:
        print(json.dumps(dataclasses.asdict(report), indent=2))
    else:
        click.echo(_as_text(report, target))
    if report.audit.verdict is Verdict.BROKEN:
        sys.exit(EXIT_BROKEN)


@records.command("restore-ledger")
@click.option("--from-node", required=True, help="The node that was lost.")
@click.option("--to", "target", required=True, type=click.Path(path_type=Path), help="File to restore into.")
@_nats_options
@click.option("--json", "as_json", is_flag=True, help="Print the result as JSON.")
def restore_ledger_command(  # noqa: PLR0913, PLR0917 - one parameter an option
    from_node: str, target: Path, url: str, ca: Path | None, certificate: Path | None, key: Path | None, as_json: bool
) -> None:
    """Restore a node's ledger of rollups, so that restored calls are not counted twice."""
    asyncio.run(restore_ledger(from_node, target, _access(url, ca, certificate, key)))
    click.echo(json.dumps({"restored": str(target)}) if as_json else f"{target} restored")


def _as_text(report: RestoreReport, target: Path) -> str:
    lines = [
        f"{report.tenant} of {report.from_node} restored into {target} in {report.took_s:.1f} s",
        f"audit: {report.audit.verdict.value}, {report.audit.entries} entries, {report.lost_entries} known to be lost",
    ]
    if report.unreadable_contents:
        lines.append(f"{report.unreadable_contents} turns cannot be read: their key did not come back")
    if not report.is_entered:
        lines.append("content stays sealed, and the restore is not entered: give --master-key")
    return "\n".join(lines)
