"""`borough node token`: by which machines become nodes. Plugged into the group `node` (provisioning/node/cli)."""

import json
import re
import time
from datetime import UTC, datetime
from pathlib import Path

import click

from contract import admin_pb2 as pb
from contract.admin_pb2_grpc import NodeTokensStub
from controlplane.cli.connection import WITHIN_S, admin_channel, context_option, hub_errors
from controlplane.cli.printing import age, duration, show_json, show_table

UNITS_S = {"": 1, "s": 1, "m": 60, "h": 3_600, "d": 86_400}
LONGEST_S = 7 * 86_400
MS_A_SECOND = 1_000
as_json_option = click.option("--json", "as_json", is_flag=True, help="Print as JSON.")


class Lifetime(click.ParamType[int]):
    """How long something holds: seconds, or 30m, 12h, 2d. Converted to seconds."""

    name = "time"

    def convert(self, value: object, param: click.Parameter | None, ctx: click.Context | None) -> int:
        match = re.fullmatch(r"([1-9]\d{0,6})([smhd]?)", str(value))
        seconds = int(match.group(1)) * UNITS_S[match.group(2)] if match is not None else 0
        if not 0 < seconds <= LONGEST_S:
            self.fail(f"{value!r} is no time up to 7d: 3600, 30m, 12h, 2d", param, ctx)
        return seconds


@click.group()
def token() -> None:
    """One-time tokens by which machines become nodes (admins)."""


@token.command()
@click.argument("region")
@click.option("--node", default="", help="Only for the node of this name; else for any name that is free.")
@click.option(
    "--ttl", "ttl_s", type=Lifetime(), default="1h", show_default=True, help="3600, 30m, 12h, 2d; at most 7d."
)
@click.option("--replace", "replaces", is_flag=True, help="The node may exist: it was rebuilt. What it had is revoked.")
@as_json_option
@context_option
def create(region: str, node: str, ttl_s: int, replaces: bool, as_json: bool, context: Path | None) -> None:
    """Make a token for REGION and print it. It is shown once: the hub keeps no copy."""
    if replaces and not node:
        raise click.UsageError("--replace needs --node")
    request = pb.NodeTokenRequest(region=region, node=node, ttl_s=ttl_s, replaces=replaces)
    with admin_channel(context) as channel, hub_errors():
        reply = NodeTokensStub(channel).Create(request, timeout=WITHIN_S)
    if not as_json:
        click.echo(reply.text)
        click.echo(f"for {_for(reply.token)}, once, within {duration(ttl_s * MS_A_SECOND)}", err=True)
        return
    made = reply.token
    report = {
        "token": reply.text,
        "id": made.id,
        "region": made.region,
        "node": made.node,
        "replaces": made.replaces,
        "expires_at": datetime.fromtimestamp(made.expires_at_ms / MS_A_SECOND, UTC).isoformat(timespec="seconds"),
        "authority_sha256": reply.text.rpartition(".")[2],
    }
    click.echo(json.dumps(report, indent=2))


@token.command("list")
@click.option("--region", default="", help="Only this region.")
@click.option("--all", "has_all", is_flag=True, help="Used, expired and revoked ones, too.")
@as_json_option
@context_option
def list_tokens(region: str, has_all: bool, as_json: bool, context: Path | None) -> None:
    """Show the tokens that can be used, newest first."""
    with admin_channel(context) as channel, hub_errors():
        reply = NodeTokensStub(channel).List(pb.NodeTokensRequest(region=region, all=has_all), timeout=WITHIN_S)
    if as_json:
        show_json(reply)
        return
    rows = [
        (made.id, made.region, made.node or "*", _state(made), age(made.created_at_ms), made.created_by, made.used_by)
        for made in reply.tokens
    ]
    show_table(("TOKEN", "REGION", "NODE", "STATE", "AGE", "BY", "USED BY"), rows)


@token.command()
@click.argument("token_id")
@as_json_option
@context_option
def revoke(token_id: str, as_json: bool, context: Path | None) -> None:
    """Take back a token that was not used, by its id (the second part of its text)."""
    with admin_channel(context) as channel, hub_errors():
        reply = NodeTokensStub(channel).Revoke(pb.NodeTokenRef(id=token_id), timeout=WITHIN_S)
    if as_json:
        show_json(reply)
    else:
        click.echo(f"token {reply.id} for {_for(reply)}: {_state(reply)}")


def _for(made: pb.NodeToken) -> str:
    return f"{made.region}/{made.node or '*'}{' (replaces it)' if made.replaces else ''}"


def _state(made: pb.NodeToken) -> str:
    state = pb.TokenState.Name(made.state).removeprefix("TOKEN_STATE_").lower()
    left_ms = made.expires_at_ms - time.time_ns() // 1_000_000
    return f"open for {duration(left_ms)}" if made.state == pb.TOKEN_STATE_OPEN else state
