"""Turns the topology into nats-server configurations. Pure: text out, nothing written.

Every connection is TLS with a client certificate, also between the servers of a cluster; the only port without is the
monitoring port, on loopback.
"""

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from contract.streams import MAX_PAYLOAD_BYTES
from contract.subjects import (
    BORDER_ACCOUNT,
    HUB_ACCOUNT,
    HUB_DOMAIN,
    REGION_ACCOUNT,
    SYSTEM_ACCOUNT,
    link_account,
    link_events,
    witness,
)
from provisioning.identity.names import ServiceName, ServiceRole
from provisioning.nats import permissions
from provisioning.nats.permissions import STRICT, Border, Permissions, wall
from provisioning.nats.topology import Hub, Node, Region, Topology

# A link or client that is silent is given up after two unanswered pings: 4 to 6 s.
PING_INTERVAL_S = 2
PING_MAX = 2
LEAF_RECONNECT_S = 1
WRITE_DEADLINE_S = 5
TLS_TIMEOUT_S = 5
# The server notes where an answer is to go, and forgets it then; it notes what a region wrote there.
ANSWER_WITHIN_S = 10
# A subject is at most this long, with its verb; what is refused is logged with its subject.
MAX_CONTROL_LINE_BYTES = 1024
MEMORY_STORE_BYTES = 64 * 1024 * 1024
# Each stream has a limit of its own, which the server sets aside, and the disk a guard: this one must only not be in
# the way.
FILE_STORE_BYTES = 1024**5
# So little that every stream with a limit is placed on the node's own server.
ARBITER_STORE_BYTES = 1024 * 1024
LOG_BYTES = 64 * 1024 * 1024
LOG_FILES = 3

# Stands for nobody: without a single user nats-server asks for none, and lets in whoever has a certificate.
NOBODY = {"user": "borough://nobody", "permissions": {"publish": {"deny": [">"]}, "subscribe": {"deny": [">"]}}}

Value = object


@dataclass(frozen=True, slots=True, kw_only=True)
class KeyFiles:
    """A certificate and its key, both PEM."""

    certificate: Path
    key: Path


@dataclass(frozen=True, slots=True, kw_only=True)
class Credentials:
    """What rendering needs of the identities: where a server's certificates lie, and who is valid."""

    authority: Path
    files: Callable[[ServiceName], KeyFiles]
    # The user names (URIs) under which a service may come; empty once it is revoked.
    users: Callable[[ServiceName], Sequence[str]]
    # SHA-256 of its valid public keys, hex.
    pins: Callable[[ServiceName], Sequence[str]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Files:
    """Where one server keeps things."""

    store: Path
    log: Path
    pid: Path


def render_hub(topology: Topology, credentials: Credentials, files: Files, border: Border = STRICT) -> str:
    """The configuration of the hub's server."""
    hub = topology.hub
    server = hub.service(ServiceRole.SERVER)
    tls = _tls(credentials, server, maps=True)
    accounts: dict[str, Value] = {
        SYSTEM_ACCOUNT: {
            "users": [NOBODY, *_users(credentials, hub.service(ServiceRole.SYSTEM), border.hub_system())],
            "exports": [_witnessed_export(event) for region in topology.regions for event in link_events(region.name)],
        },
        HUB_ACCOUNT: {
            "jetstream": "enabled",
            "users": [
                *_users(credentials, hub.service(ServiceRole.CONTROLPLANE), border.controlplane()),
                *_users(credentials, hub.service(ServiceRole.LITESTREAM), permissions.hub_litestream()),
                *([] if border.has_wall else _leaf_users(topology.regions, credentials, border)),
            ],
            "exports": [_export(region, opening) for region in topology.regions for opening in wall(region.name)],
            "imports": [opening for region in topology.regions for opening in _witnessed_imports(region, border)],
        },
    }
    for region in topology.regions:
        accounts[link_account(region.name)] = {
            "users": _leaf_users([region], credentials, border) if border.has_wall else [],
            "imports": [_import(opening) for opening in wall(region.name)],
            "exports": [_witnessed_export(subject) for subject in border.witnessed(region.name)],
        }
    return _text(
        {
            **_common(hub, files),
            "tls": tls,
            "jetstream": _jetstream(files, HUB_DOMAIN),
            # Nodes know the hub's address; they need not be told of others.
            "leafnodes": {"listen": f"{hub.address}:{hub.leaf_port}", "no_advertise": True, "tls": tls},
            "accounts": accounts,
            "system_account": SYSTEM_ACCOUNT,
        }
    )


def render_node(topology: Topology, node: Node, credentials: Credentials, files: Files, border: Border = STRICT) -> str:
    """The configuration of the server of one node of a region, or of its arbiter, which has no link."""
    region = topology.region(node.region)
    hub = topology.hub
    is_arbiter = node == region.arbiter
    server = (region.nodes[0] if is_arbiter else node).service(ServiceRole.SERVER)
    remote: dict[str, Value] = {
        "url": f"tls://{hub.address}:{hub.leaf_port}",
        "account": BORDER_ACCOUNT,
        "deny_exports": border.denied_exports(region.name),
        "deny_imports": border.denied_imports(region.name),
        "tls": _tls(credentials, node.service(ServiceRole.LEAF)),
    }
    config: dict[str, Value] = {
        **_common(node, files),
        "tls": _tls(credentials, server, maps=True),
        "accounts": _node_accounts(region, credentials, border),
        "system_account": SYSTEM_ACCOUNT,
    }
    if not is_arbiter:
        config["leafnodes"] = {"reconnect": f"{LEAF_RECONNECT_S}s", "remotes": [_without_empty(remote)]}
    if node in region.jetstream_servers:
        config["jetstream"] = _jetstream(files, region.name, ARBITER_STORE_BYTES if is_arbiter else FILE_STORE_BYTES)
    if len(region.nodes) > 1:
        config["cluster"] = _cluster(region, node, _tls(credentials, server), credentials)
    return _text(config)


def _node_accounts(region: Region, credentials: Credentials, border: Border) -> dict[str, Value]:
    """The same on every node of the region, so that an account means the same all over the cluster."""
    system, border_users, region_users = [], [], []
    for node in region.nodes:
        system += _users(credentials, node.service(ServiceRole.SYSTEM), permissions.region_system())
        border_users += _users(credentials, node.service(ServiceRole.BORDER), border.border(node))
        region_users += [
            *_users(credentials, node.service(ServiceRole.AGENT), permissions.agent()),
            *_users(credentials, node.service(ServiceRole.CALLS), permissions.calls()),
            *_users(credentials, node.service(ServiceRole.LITESTREAM), permissions.node_litestream()),
        ]
    return {
        SYSTEM_ACCOUNT: {"users": [NOBODY, *system]},
        BORDER_ACCOUNT: {"jetstream": "enabled", "users": border_users},
        REGION_ACCOUNT: {"jetstream": "enabled", "users": region_users},
    }


def _cluster(region: Region, node: Node, tls: Mapping[str, Value], credentials: Credentials) -> dict[str, Value]:
    siblings = [other for other in region.servers if other.name != node.name]
    # Whoever joins the cluster sees every account: only the keys of this region's servers may, not any certificate.
    pins = [pin for other in region.nodes for pin in credentials.pins(other.service(ServiceRole.SERVER))]
    return {
        "name": region.name,
        "listen": f"{node.address}:{node.cluster_port}",
        "no_advertise": True,
        "routes": [f"tls://{other.address}:{other.cluster_port}" for other in siblings],
        "tls": {**tls, "verify": True, "pinned_certs": sorted(pins)},
    }


def _common(server: Hub | Node, files: Files) -> dict[str, Value]:
    name = server.node if isinstance(server, Hub) else server.name
    return {
        "server_name": name,
        "listen": f"{server.address}:{server.client_port}",
        "http": f"127.0.0.1:{server.monitor_port}",
        "pid_file": str(files.pid),
        "log_file": str(files.log),
        "log_size_limit": LOG_BYTES,
        "log_max_num": LOG_FILES,
        "logtime_utc": True,
        # Who comes without TLS is told of at this level only; 120 to 650 bytes a second.
        "debug": True,
        "max_payload": MAX_PAYLOAD_BYTES,
        "max_control_line": MAX_CONTROL_LINE_BYTES,
        "ping_interval": f"{PING_INTERVAL_S}s",
        "ping_max": PING_MAX,
        "write_deadline": f"{WRITE_DEADLINE_S}s",
    }


def _tls(credentials: Credentials, name: ServiceName, *, maps: bool = False) -> dict[str, Value]:
    files = credentials.files(name)
    tls: dict[str, Value] = {
        "cert_file": str(files.certificate),
        "key_file": str(files.key),
        "ca_file": str(credentials.authority),
        "timeout": TLS_TIMEOUT_S,
    }
    # Implies that a certificate is demanded and checked against the authority.
    return tls | {"verify_and_map": True} if maps else tls


def _jetstream(files: Files, domain: str, file_bytes: int = FILE_STORE_BYTES) -> dict[str, Value]:
    return {
        "store_dir": str(files.store),
        "domain": domain,
        "max_memory_store": MEMORY_STORE_BYTES,
        "max_file_store": file_bytes,
    }


def _leaf_users(regions: Sequence[Region], credentials: Credentials, border: Border) -> list[Value]:
    return [
        user
        for region in regions
        for node in region.nodes
        for user in _users(credentials, node.service(ServiceRole.LEAF), border.leaf(node))
    ]


def _users(credentials: Credentials, name: ServiceName, granted: Permissions) -> list[Value]:
    publish: dict[str, Value] = {"allow": list(granted.publish), "deny": list(granted.publish_deny)}
    return [
        {
            "user": uri,
            "permissions": {"publish": _without_empty(publish), "subscribe": {"allow": list(granted.subscribe)}},
            "allowed_connection_types": ["LEAFNODE"] if name.role is ServiceRole.LEAF else ["STANDARD"],
        }
        for uri in credentials.users(name)
    ]


def _export(region: Region, opening: permissions.Opening) -> dict[str, Value]:
    export: dict[str, Value] = {opening.kind: opening.subject, "accounts": [link_account(region.name)]}
    return export | ({"threshold": f"{ANSWER_WITHIN_S}s"} if opening.kind == "service" else {})


def _import(opening: permissions.Opening) -> dict[str, Value]:
    source = {opening.kind: {"account": HUB_ACCOUNT, "subject": opening.subject}}
    return source | ({"to": opening.local} if opening.local else {})


def _witnessed_export(subject: str) -> dict[str, Value]:
    return {"stream": subject, "accounts": [HUB_ACCOUNT]}


def _witnessed_imports(region: Region, border: Border) -> list[dict[str, Value]]:
    heard = [(link_account(region.name), subject) for subject in border.witnessed(region.name)]
    told = [(SYSTEM_ACCOUNT, subject) for subject in link_events(region.name)]
    return [
        {"stream": {"account": account, "subject": subject}, "prefix": witness(region.name)}
        for account, subject in heard + told
    ]


def _without_empty(values: Mapping[str, Value]) -> dict[str, Value]:
    return {key: value for key, value in values.items() if value != []}


def _text(config: Mapping[str, Value]) -> str:
    """NATS reads JSON values; keys stand alone, one a line."""
    return "# Rendered from the topology; changes are overwritten.\n" + "".join(
        f"{key}: {json.dumps(value, indent=2)}\n" for key, value in config.items()
    )
