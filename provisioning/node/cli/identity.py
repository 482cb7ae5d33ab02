"""`borough node init-hub`, `enroll`, `renew`: the identity of this machine."""

import asyncio
import json
import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import TextIO

import click

from provisioning.identity.names import HUB_ROLES, NODE_ROLES, is_host
from provisioning.node.call_services import CallServices
from provisioning.node.cli.options import json_option, root_option
from provisioning.node.description import HubDescription, NodeDescription
from provisioning.node.enrolment.enroll import HubAddress, enroll
from provisioning.node.enrolment.renew import Machinery, Renewal, renew
from provisioning.node.enrolment.token import parse_token
from provisioning.node.errors import EnrolmentError, NodeDescriptionError, NodeIdentityError
from provisioning.node.folder import RenderedFolder
from provisioning.node.hub_identity import HubIdentity, ensure_admin
from provisioning.node.inputs import Inputs
from provisioning.node.machine import ADMIN, Machine, group_id
from provisioning.node.reloading import restart_holders, take_over

RENEWED_WITHIN_S = 180.0
# Half of what certificates of services are good for: time for two failures before anybody is woken.
RENEW_BELOW_DAYS = 90.0

address_option = click.option(
    "--address",
    "addresses",
    multiple=True,
    help="Further name or address that the hub is reached at; repeat. Its own address is always in.",
)


@click.command("init-hub")
@address_option
@click.option(
    "--admin-out",
    type=click.Path(path_type=Path, file_okay=False),
    default=ADMIN,
    show_default=True,
    help="Folder for the first admin's certificate and context file.",
)
@click.option("--admin", "admin_name", default="admin", show_default=True, help="Name of the first admin.")
@root_option
@json_option
def init_hub(addresses: tuple[str, ...], admin_out: Path, admin_name: str, root: Path, as_json: bool) -> None:
    """Make the authority, the hub's certificates and the first admin, where they are not there yet."""
    inputs = Inputs(Machine(root))
    hub = inputs.description()
    if not isinstance(hub, HubDescription):
        raise NodeDescriptionError("this machine is a node", hint="`borough node enroll` gives it its identity.")
    for address in addresses:
        if not is_host(address):
            raise click.BadParameter(f"{address!r} is neither an IP address nor a host name", param_hint="--address")
    now = datetime.now(UTC)
    identity = HubIdentity(hub=hub, store=inputs.store(), folder=inputs.identity())
    made = identity.ensure(identity.addresses(addresses), now)
    out = inputs.machine.at(admin_out) if admin_out.is_absolute() else admin_out
    made_admin = ensure_admin(hub, inputs.store(), admin_name, out, now)
    document = {"changed": made or made_admin, "context": str(admin_out / "context.toml")}
    word = "made" if document["changed"] else "unchanged"
    click.echo(json.dumps(document) if as_json else f"{word}; admins use the context {document['context']}")


@click.command("enroll")
@click.option("--hub", "address", help="HOST:PORT of the hub's enrolment; else as node.toml says.")
@click.option(
    "--token-file",
    type=click.File("r"),
    required=True,
    help="File with the token, - for standard input. It is used up by this.",
)
@click.option("--anew", is_flag=True, help="Also if this machine has an identity: it is replaced.")
@root_option
@json_option
def enroll_node(address: str | None, token_file: TextIO, anew: bool, root: Path, as_json: bool) -> None:
    """Give this machine the identity of its node: keys are made here, the hub certifies them."""
    inputs = Inputs(Machine(root))
    node, folder = inputs.node(), inputs.identity()
    if folder.is_enrolled and not anew:
        document: dict[str, object] = {"changed": False, "region": node.region, "node": node.name}
        click.echo(json.dumps(document) if as_json else f"enrolled already as {node.name} in {node.region}")
        return
    token = parse_token(token_file.read())
    pairs = asyncio.run(enroll(node, folder, _hub_address(address, node), token))
    document = {"changed": True, "region": node.region, "node": node.name, "roles": [pair.role for pair in pairs]}
    click.echo(json.dumps(document) if as_json else f"enrolled as {node.name} in {node.region}")


@click.command("renew")
@click.option(
    "--below-days",
    type=click.FloatRange(min=0),
    default=RENEW_BELOW_DAYS,
    show_default=True,
    help="Only if a certificate is missing, or good for fewer days than this.",
)
@click.option("--now", "at_once", is_flag=True, help="However long they are good.")
@click.option("--within", "within_s", type=float, default=RENEWED_WITHIN_S, help="Seconds to wait for the bundle.")
@address_option
@root_option
@json_option
def renew_certificates(
    below_days: float, at_once: bool, within_s: float, addresses: tuple[str, ...], root: Path, as_json: bool
) -> None:
    """Put new keys and certificates in use; services start anew, those of calls while they have none."""
    inputs = Inputs(Machine(root))
    folder, now = inputs.identity(), datetime.now(UTC)
    if not folder.is_enrolled:
        raise NodeIdentityError("this machine has no identity yet", hint="`borough node enroll` or `init-hub` first.")
    left = min(held.expires_in_days(now) for held in folder.held())
    description = inputs.description()
    # A release may bring roles that were not there when the machine got its certificates.
    lacks = set(HUB_ROLES if isinstance(description, HubDescription) else NODE_ROLES) - set(folder.roles())
    if left >= below_days and not at_once and not lacks and folder.staged_version() is None:
        # Whoever had calls when there was something to renew.
        restarted = asyncio.run(_restart_call_services(inputs, description))
        document: dict[str, object] = {"changed": False, "expires_in_days": round(left, 1), "restarted": restarted}
        _tell(f"nothing to renew: {left:.0f} days left", document, inputs, as_json=as_json)
        return
    if isinstance(description, HubDescription):
        done = asyncio.run(_renew_hub(inputs, description, addresses))
    else:
        done = asyncio.run(renew(description, inputs, _machinery(inputs, description), within_s))
    left = min(held.expires_in_days(now) for held in done.certificates)
    document = {"changed": True, "expires_in_days": round(left, 1), "restarted": list(done.restarted)}
    _tell(f"renewed: {left:.0f} days left", document, inputs, as_json=as_json)


def _hub_address(text: str | None, node: NodeDescription) -> HubAddress:
    if text is None:
        return HubAddress(host=node.hub.address, port=node.hub.enrolment_port)
    host, _, port = text.rpartition(":")
    if not port.isdecimal() or not is_host(host.strip("[]")):
        raise EnrolmentError(f"--hub {text!r} is not HOST:PORT", hint="Such as --hub 10.10.0.5:7444.")
    return HubAddress(host=host.strip("[]"), port=int(port))


def _tell(text: str, document: dict[str, object], inputs: Inputs, *, as_json: bool) -> None:
    description = inputs.description()
    left = asyncio.run(CallServices(inputs, description).stale()) if isinstance(description, NodeDescription) else []
    if as_json:
        click.echo(json.dumps(document | {"left": left}))
        return
    click.echo(text)
    if left:
        click.echo(f"have calls, and get their new certificates another day: {' '.join(left)}")


async def _restart_call_services(inputs: Inputs, description: NodeDescription | HubDescription) -> list[str]:
    return await CallServices(inputs, description).restart() if isinstance(description, NodeDescription) else []


def _machinery(inputs: Inputs, node: NodeDescription) -> Machinery:
    async def render() -> None:
        await _render(inputs)

    async def restart() -> list[str]:
        return [*await restart_holders(), *await CallServices(inputs, node).restart()]

    return Machinery(restart=restart, render=render)


async def _render(inputs: Inputs) -> None:
    folder = RenderedFolder(inputs.machine)
    files = inputs.files(datetime.now(UTC))
    changes = folder.changes(files)
    folder.write(files, group_id)
    await take_over(changes, inputs.description().nats.monitor)


async def _renew_hub(inputs: Inputs, hub: HubDescription, addresses: tuple[str, ...]) -> Renewal:
    identity, now = HubIdentity(hub=hub, store=inputs.store(), folder=inputs.identity()), datetime.now(UTC)
    identity.stage(identity.addresses(addresses) if addresses else identity.known_addresses(now), now)
    # The hub's server has to know the new users before anybody comes with them, and is to forget the old ones.
    await _render(inputs)
    old = identity.folder.held()
    identity.folder.point(identity.folder.staged())
    try:
        restarted = await restart_holders()
    except BaseException:
        identity.folder.point(old)
        sys.stderr.write("the old certificates are in use again: systemctl restart borough-nats borough-controlplane\n")
        raise
    identity.confirm()
    await _render(inputs)
    return Renewal(certificates=tuple(identity.folder.held()), restarted=tuple(restarted))
