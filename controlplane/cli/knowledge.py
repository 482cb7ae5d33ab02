"""`borough knowledge`: what agents know, from files and feeds to the nodes of the tenant's regions."""

import asyncio
import time
from collections.abc import Sequence
from pathlib import Path

import aiohttp
import click

from contract import admin_pb2 as pb
from contract.admin_pb2_grpc import KnowledgeStub
from controlplane.cli.connection import WITHIN_S, admin_channel, context_option, hub_errors
from controlplane.cli.printing import age, show_json, show_table
from controlplane.errors import ControlPlaneError
from controlplane.knowledge.errors import KnowledgeSourceError
from controlplane.knowledge.sources import Source, SourceReader, source_at, sources_in
from controlplane.knowledge.uploading import Uploader, watch

# Vectors of 80,000 new items take minutes on the hub.
BUILD_WITHIN_S = 3600.0
PUBLISH_WITHIN_S = 300.0


@click.group()
def knowledge() -> None:
    """What agents know: build, publish, roll back."""


@knowledge.command()
@click.option(
    "--file", "-f", "directory", type=click.Path(exists=True, file_okay=False, path_type=Path),
    help="Folder of a tenant's documents: its agents' files of knowledge, and knowledge/sources.toml.",
)  # fmt: skip
@click.option("--tenant", help="Tenant of the sources given by --source.")
@click.option("--source", "named", multiple=True, metavar="NAME=PLACE", help="A file, a folder of Markdown or a URL.")
@click.option("--publish", "then_publish", is_flag=True, help="Publish the draft when it differs.")
@click.option("--watch", "keep_watching", is_flag=True, help="Go on: build and publish whenever a source changes.")
@click.option(
    "--every", "every_s", default=60.0, show_default=True, help="Seconds between looks at feeds, with --watch."
)
@click.option("--json", "as_json", is_flag=True, help="Print replies as JSON.")
@context_option
def build(  # noqa: PLR0913, PLR0917 - one a click option
    directory: Path | None,
    tenant: str | None,
    named: tuple[str, ...],
    then_publish: bool,
    keep_watching: bool,
    every_s: float,
    as_json: bool,
    context: Path | None,
) -> None:
    """Read sources, upload their items, and show what publishing would change."""
    owner, sources = _sources(directory, tenant, named)
    asyncio.run(
        _build(owner, sources, context, publishes=then_publish or keep_watching, as_json=as_json,
               every_s=every_s if keep_watching else None)
    )  # fmt: skip


@knowledge.command()
@click.argument("tenant")
@click.option("--snapshot", is_flag=True, help="Send everything, even where the changes would do.")
@click.option("--json", "as_json", is_flag=True, help="Print the reply as JSON.")
@context_option
def publish(tenant: str, snapshot: bool, as_json: bool, context: Path | None) -> None:
    """Send the draft to all nodes of the tenant's regions."""
    _publish(tenant, context, snapshot=snapshot, as_json=as_json)


@knowledge.command()
@click.argument("tenant")
@click.option("--json", "as_json", is_flag=True, help="Print the reply as JSON.")
@context_option
def diff(tenant: str, as_json: bool, context: Path | None) -> None:
    """Show what publishing the draft would change."""
    with admin_channel(context) as channel, hub_errors():
        reply = KnowledgeStub(channel).Diff(pb.TenantRef(tenant=tenant), timeout=WITHIN_S)
    _show_diff(reply, as_json=as_json)


@knowledge.command()
@click.argument("tenant")
@click.argument("version", type=click.IntRange(min=1))
@click.option("--json", "as_json", is_flag=True, help="Print the reply as JSON.")
@context_option
def rollback(tenant: str, version: int, as_json: bool, context: Path | None) -> None:
    """Publish what an earlier version held as a new version; the draft is replaced by it."""
    with admin_channel(context) as channel, hub_errors():
        request = pb.KnowledgeRollbackRequest(tenant=tenant, version=version)
        reply = KnowledgeStub(channel).Rollback(request, timeout=PUBLISH_WITHIN_S)
    _show_published(reply, as_json=as_json)


@knowledge.command()
@click.argument("tenant", default="")
@click.option("--json", "as_json", is_flag=True, help="Print the reply as JSON.")
@context_option
def status(tenant: str, as_json: bool, context: Path | None) -> None:
    """Show version, age and how many items hold today, of one tenant or all."""
    with admin_channel(context) as channel, hub_errors():
        reply = KnowledgeStub(channel).Status(pb.TenantRef(tenant=tenant), timeout=WITHIN_S)
    if as_json:
        show_json(reply)
        return
    rows = [
        (
            one.tenant,
            str(one.version or "-"),
            age(one.created_at_ms) or "-",
            *(str(number) for number in (one.items, one.valid, one.expired, one.future)),
            "draft differs" if one.has_draft else "",
        )
        for one in reply.tenants
    ]
    show_table(("TENANT", "VERSION", "AGE", "ITEMS", "VALID", "EXPIRED", "FUTURE", ""), rows)


async def _build(
    tenant: str,
    sources: Sequence[Source],
    context: Path | None,
    *,
    publishes: bool,
    as_json: bool,
    every_s: float | None,
) -> None:
    async with aiohttp.ClientSession() as session:
        uploader = Uploader(tenant, sources, SourceReader(session=session))

        async def once() -> None:
            requests = await uploader.requests()
            if requests:
                await asyncio.to_thread(_send, tenant, requests, context, publishes=publishes, as_json=as_json)

        async def again() -> None:
            try:
                await once()
            except ControlPlaneError as error:
                # What is half written, or a hub that is away, is tried again at the next change.
                click.echo(f"{error.code}: {error} ({error.hint})", err=True)
                if not isinstance(error, KnowledgeSourceError):
                    uploader.forget()

        await once()
        if every_s is not None:
            await watch(sources, again, every_s=every_s)


def _send(
    tenant: str, requests: Sequence[pb.BuildRequest], context: Path | None, *, publishes: bool, as_json: bool
) -> None:
    with admin_channel(context) as channel, hub_errors():
        reply = KnowledgeStub(channel).Build(iter(requests), timeout=BUILD_WITHIN_S)
    _show_diff(reply, as_json=as_json)
    if publishes and reply.added + reply.changed + reply.removed:
        _publish(tenant, context, snapshot=False, as_json=as_json)


def _publish(tenant: str, context: Path | None, *, snapshot: bool, as_json: bool) -> None:
    began = time.monotonic()
    with admin_channel(context) as channel, hub_errors():
        request = pb.PublishRequest(tenant=tenant, snapshot=snapshot)
        reply = KnowledgeStub(channel).Publish(request, timeout=PUBLISH_WITHIN_S)
    _show_published(reply, as_json=as_json, took_s=time.monotonic() - began)


def _sources(directory: Path | None, tenant: str | None, named: tuple[str, ...]) -> tuple[str, list[Source]]:
    sources: list[Source] = []
    if directory is not None:
        found, sources = sources_in(directory)
        if tenant not in {None, found}:
            raise click.UsageError(f"{directory} is of {found}, not of {tenant}")
        tenant = found
    for text in named:
        name, _, place = text.partition("=")
        if not place:
            raise click.UsageError(f"--source is NAME=PLACE, not {text!r}")
        sources.append(source_at(name, place))
    if tenant is None or not sources:
        raise click.UsageError("give a folder with -f, or --tenant and --source")
    return tenant, sources


def _show_diff(reply: pb.KnowledgeDiff, *, as_json: bool) -> None:
    if as_json:
        show_json(reply)
        return
    for example in reply.examples:
        click.echo(f"  {example}")
    counts = f"{reply.added} added, {reply.changed} changed, {reply.removed} removed"
    click.echo(f"{reply.tenant}: {counts}, {reply.items} items ({reply.took_s:.1f} s)")


def _show_published(reply: pb.PublishReply, *, as_json: bool, took_s: float | None = None) -> None:
    if as_json:
        show_json(reply)
    elif not reply.regions:
        click.echo(f"{reply.tenant}: nothing to publish, version {reply.version} is everywhere")
    else:
        what = "snapshot" if reply.is_snapshot else "delta"
        took = f" in {took_s:.2f} s" if took_s is not None else ""
        regions = ", ".join(reply.regions)
        click.echo(
            f"{reply.tenant}: version {reply.version} as a {what} of {reply.content_bytes} bytes to {regions}{took}"
        )
