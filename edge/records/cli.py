"""`borough audit`: prove that the records of a node were not touched."""

import dataclasses
import json
import sys
from pathlib import Path

import click

from edge.records.database import DatabaseSettings, tenants_in
from edge.records.errors import AuditMissingError
from edge.records.verification import AuditReport, Verdict, verify

EXIT_BROKEN = 1
EXIT_UNVERIFIED = 3  # 2 is wrong usage


@click.group()
def audit() -> None:
    """The audit log of a node's records."""


@audit.command("verify")
@click.option("--records", required=True, type=click.Path(path_type=Path), help="Folder of the tenants' databases.")
@click.option("--tenant", help="Only this tenant.")
@click.option("--keys", type=click.Path(path_type=Path), help="Folder of the key databases, if it is another.")
@click.option("--master-key", type=click.Path(path_type=Path), help="The node's master keys, if they lie elsewhere.")
@click.option("--json", "as_json", is_flag=True, help="Print the reports as JSON.")
def verify_command(
    records: Path, tenant: str | None, keys: Path | None, master_key: Path | None, as_json: bool
) -> None:
    """Verify the audit chains; exit code 1 when an entry was changed, removed or cut off, or a call was altered.

    Exit code 3 when nothing is broken but whether the end was cut cannot be verified here: the note of the end, or the
    node's master keys, are missing.
    """
    settings = DatabaseSettings(keys_directory=keys, master_key_file=master_key)
    tenants = (tenant,) if tenant else tenants_in(records)
    if not tenants:
        raise AuditMissingError(f"{records} holds no records")
    reports = [verify(records, name, settings) for name in tenants]
    if as_json:
        print(json.dumps([_as_json(report) for report in reports], indent=2))
    else:
        for report in reports:
            click.echo(_as_line(report))
    verdicts = {report.verdict for report in reports}
    if verdicts != {Verdict.WHOLE}:
        sys.exit(EXIT_BROKEN if Verdict.BROKEN in verdicts else EXIT_UNVERIFIED)


def _as_json(report: AuditReport) -> dict[str, object]:
    return {**dataclasses.asdict(report), "is_whole": report.is_whole, "verdict": report.verdict}


def _as_line(report: AuditReport) -> str:
    parts = [f"{report.tenant}: {report.verdict.value}, {report.entries} entries, anchor {report.anchor.value}"]
    if report.anchored_seq is not None:
        parts.append(f"at entry {report.anchored_seq}")
    if report.first_broken is not None:
        parts.append(f"- entry {report.first_broken} does not follow from those before it")
    if report.altered_calls:
        parts.append(f"- altered calls: {', '.join(report.altered_calls)}")
    return " ".join(parts)
