"""`borough policy`: what laws ask of tenants, and where a tenant is looser. Not legal advice."""

import json
import sys
from collections.abc import Iterable
from pathlib import Path

import click

from contract import admin_pb2 as pb
from contract.admin_pb2_grpc import DocumentsStub
from controlplane.cli.connection import WITHIN_S, admin_channel, context_option, hub_errors
from controlplane.cli.printing import name_of, show_json, show_table
from controlplane.jurisdictions.errors import UnknownPackError
from controlplane.jurisdictions.lint import show
from controlplane.jurisdictions.packs import load_packs
from controlplane.jurisdictions.rules import Pack, Rule
from controlplane.jurisdictions.strictest import strictest

EXIT_FINDINGS = 2
ERROR = "error"
ADVICE = "Not legal advice: counsel of the jurisdiction must review a pack before it is relied on."
as_json_option = click.option("--json", "as_json", is_flag=True, help="Print as JSON.")


@click.group()
def policy() -> None:
    """What laws ask of tenants (jurisdiction packs)."""


@policy.command()
@click.option("--tenant", default="", help="Only this tenant.")
@click.option("--strictest", "is_strictest", is_flag=True, help="Judge by the strictest rule of all packs.")
@as_json_option
@context_option
def lint(tenant: str, is_strictest: bool, as_json: bool, context: Path | None) -> None:
    """Show where tenants are looser than their jurisdictions ask; exit code 2 if a law forbids it."""
    with admin_channel(context) as channel, hub_errors():
        documents = DocumentsStub(channel)
        reply = pb.LintReply()
        for name in [tenant] if tenant else _tenants(documents):
            request = pb.LintRequest(tenant=name, strictest=is_strictest)
            reply.findings.extend(documents.Lint(request, timeout=WITHIN_S).findings)
    if as_json:
        show_json(reply)
    else:
        for finding in reply.findings:
            _show_finding(finding)
        errors = sum(finding.severity == ERROR for finding in reply.findings)
        click.echo(f"{errors} errors, {len(reply.findings) - errors} warnings. {ADVICE}")
    if any(finding.severity == ERROR for finding in reply.findings):
        sys.exit(EXIT_FINDINGS)


@policy.group()
def packs() -> None:
    """The laws that this release knows."""


@packs.command("list")
@as_json_option
def list_packs(as_json: bool) -> None:
    """Show the packs by name."""
    known = load_packs().values()
    if as_json:
        click.echo(json.dumps([_summary(pack) for pack in known], indent=2))
        return
    header = ("PACK", "RULES", "AS OF", "APPLIES FROM", "TITLE")
    rows = [(pack.name, str(len(pack.rules)), f"{pack.as_of}", f"{pack.applies_from}", pack.title) for pack in known]
    show_table(header, rows)
    click.echo(ADVICE)


@packs.command("show")
@click.argument("name", required=False)
@click.option("--strictest", "is_strictest", is_flag=True, help="Show the strictest rule of all packs instead.")
@as_json_option
def show_pack(name: str | None, is_strictest: bool, as_json: bool) -> None:
    """Show the rules of a pack, with the article each one comes from."""
    if is_strictest == (name is not None):
        raise click.UsageError("give the NAME of a pack, or --strictest")
    rules = _rules(name)
    if as_json:
        click.echo(json.dumps([_rule(rule) for rule in rules], indent=2))
        return
    rows = [(rule.id, show(rule.value), rule.force.value, rule.article) for rule in rules]
    show_table(("RULE", "VALUE", "FORCE", "ARTICLE"), rows)
    click.echo(ADVICE)


def _tenants(documents: DocumentsStub) -> list[str]:
    listed = documents.List(pb.ListRequest(kind="Tenant"), timeout=WITHIN_S)
    return [stored.document.name for stored in listed.documents]


def _rules(name: str | None) -> Iterable[Rule]:
    known = load_packs()
    if name is None:
        return strictest(known.values()).rules
    if name not in known:
        raise UnknownPackError(f"there is no jurisdiction pack {name!r}")
    return known[name].rules


def _show_finding(finding: pb.Finding) -> None:
    colour = "red" if finding.severity == ERROR else "yellow"
    click.secho(f"{finding.severity}: {name_of(finding.document)}: {finding.key}", fg=colour, bold=True)
    click.echo(f"  {finding.message}")
    click.echo(f"  {finding.rule} ({finding.source}); would do: {finding.suggestion}")


def _summary(pack: Pack) -> dict[str, object]:
    return {
        "pack": pack.name,
        "title": pack.title,
        "as_of": pack.as_of.isoformat(),
        "applies_from": pack.applies_from.isoformat(),
        "countries": sorted(pack.countries),
        "rules": len(pack.rules),
    }


def _rule(rule: Rule) -> dict[str, object]:
    return {
        "id": rule.id,
        "kind": rule.kind.value,
        "of": rule.of,
        "value": show(rule.value),
        "force": rule.force.value,
        "article": rule.article,
        "because": rule.because,
    }
