"""What admin commands print: columns for people, JSON for programs."""

import json
import time
from collections.abc import Sequence

import click
from google.protobuf.json_format import MessageToDict
from google.protobuf.message import Message

from contract import admin_pb2 as pb

GAP = 3


def show_json(message: Message) -> None:
    """A reply as JSON, with the names of contract/admin.proto."""
    fields = MessageToDict(message, preserving_proto_field_name=True, always_print_fields_with_no_presence=True)
    click.echo(json.dumps(fields, indent=2))


def show_table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """Columns, as wide as their widest cell."""
    table = [header, *rows]
    widths = [max(len(row[column]) for row in table) for column in range(len(header))]
    for row in table:
        cells = [cell.ljust(width + GAP) for cell, width in zip(row, widths, strict=True)]
        click.echo("".join(cells).rstrip())


def age(at_ms: int) -> str:
    """How long ago, in the largest fitting unit; empty for 0."""
    return duration(time.time_ns() // 1_000_000 - at_ms) if at_ms else ""


def duration(ms: int) -> str:
    """Such as 4s, 12m, 5h, 3d."""
    seconds = max(0, ms) // 1000
    for size, unit in ((86_400, "d"), (3_600, "h"), (60, "m")):
        if seconds >= 2 * size:
            return f"{seconds // size}{unit}"
    return f"{seconds}s"


def name_of(ref: pb.DocumentRef) -> str:
    """As an operator writes it: `tenant/name`, or the name alone of a tenant or region."""
    return ref.name if ref.tenant in ("", ref.name) else f"{ref.tenant}/{ref.name}"
