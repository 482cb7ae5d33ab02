"""What an operator gets wrong: each a small change of an inventory that is right, and the remedy that must be named."""

from dataclasses import dataclass, field
from pathlib import Path

Vars = dict[str, object]
# Stands for the variable being left out.
ABSENT = object()


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """What the right inventory needs on this machine: a build store, a hub that listens, certificates, tokens."""

    store: Path
    store_key: Path
    other_key: Path
    torn_store: Path
    partial_store: Path
    authority: Path
    other_authority: Path
    tokens: Path
    enrolled: Path
    enrolled_elsewhere: Path
    expired: Path
    hub_port: int
    closed_port: int
    cpu: Path
    old_cpu: Path


@dataclass(frozen=True, slots=True, kw_only=True)
class Wrong:
    """A change of the right host's variables, and what the message must hold: the problem and its remedy."""

    name: str
    change: Vars
    says: tuple[str, ...]
    # The tasks of the role that see it; those before it would pass.
    stage: str = "inventory"
    # Further hosts whose names or addresses it shares.
    siblings: tuple[Vars, ...] = field(default=())


TRUNK = {
    "name": "carrier-a",
    "host": "10.77.0.1",
    "port": 5060,
    "networks": ["10.77.0.1/32"],
    "transport": "udp",
    "srtp": False,
}
SECRETS = {"subjects": "s" * 43, "master": ["0f" * 32], "ari": "a" * 43}


GROUPS: dict[str, list[str]] = {"all": [], "nodes": ["in-south-1", "in-south-2"], "ungrouped": []}


def right(place: Place) -> Vars:
    """The variables of a node that preflight lets through."""
    return {
        "borough_region": "in-south",
        "borough_node": "in-south-1",
        "borough_address": "10.77.0.11",
        "borough_version": "0.1.0",
        "borough_store": str(place.store),
        "borough_store_key": str(place.store_key),
        "borough_admin_networks": ["10.77.0.0/24"],
        "borough_ntp_servers": [],
        "borough_hub_name": "hub-1",
        "borough_hub_address": "127.0.0.1",
        "borough_hub_authority": str(place.authority),
        "borough_token_file": str(place.tokens / "right.json"),
        "borough_capacity": 28,
        "borough_workers": 2,
        "borough_vip": "10.77.0.100",
        "borough_vip_prefix": 24,
        "borough_trunks": [TRUNK],
        "borough_models": {"asr": "whisper-tiny.en"},
        "borough_secrets": SECRETS,
        # The machine that the tests run on is no node.
        "preflight_kind": "node",
        "preflight_system": "Debian 13",
        "preflight_addresses": ["10.77.0.11"],
        "preflight_controller_address": "10.77.0.1",
        "preflight_cpuinfo": str(place.cpu),
        "preflight_min_cores": 1,
        "preflight_min_memory_mb": 64,
        "preflight_min_disk_mb": 1,
        "preflight_max_skew_s": 30,
        "preflight_hub_ports": [place.hub_port],
        "preflight_hub_timeout_s": 1,
        "preflight_ports": {},
        "preflight_identity": "/nonexistent",
        "preflight_groups": GROUPS,
        "preflight_store_once": False,
    }


def wrong_inventories(place: Place) -> list[Wrong]:
    """All of them."""
    return [*_names(), *_keys(), *_networks(), *_store(place), *_machine(place), *_hub(place)]


def _names() -> list[Wrong]:
    return [
        Wrong(name="no-region", change={"borough_region": ABSENT}, says=("set borough_region",)),
        Wrong(name="region-of-capitals", change={"borough_region": "South India"}, says=("lower-case letters",)),
        Wrong(name="region-named-hub", change={"borough_region": "hub"}, says=("choose another name",)),
        Wrong(name="node-of-digits", change={"borough_node": "node-4917612345"}, says=("at most 6", "in-south-1")),
        Wrong(
            name="node-twice",
            change=_groups(nodes=["twin-a", "twin-b"]),
            siblings=(
                {"name": "twin-a", "borough_node": "in-south-1", "borough_address": "10.77.0.11"},
                {"name": "twin-b", "borough_node": "in-south-1", "borough_address": "10.77.0.12"},
            ),
            says=("name 'in-south-1' is given to twin-a, twin-b", "needs its own"),
        ),
        Wrong(
            name="address-twice",
            change=_groups(nodes=["pair-a", "pair-b"]),
            siblings=(
                {"name": "pair-a", "borough_node": "in-south-1", "borough_address": "10.77.0.11"},
                {"name": "pair-b", "borough_node": "in-south-2", "borough_address": "10.77.0.11"},
            ),
            says=("address '10.77.0.11' is given to pair-a, pair-b", "needs its own"),
        ),
        Wrong(name="no-nodes", change=_groups(nodes=[]), says=("list the region's machines below nodes",)),
        Wrong(
            name="hub-is-node",
            change=_groups(hub=["in-south-1"]),
            says=("give the hub, which holds", "its own"),
        ),
        Wrong(name="no-hub", change={"borough_hub_address": ABSENT}, says=("set borough_hub_name",)),
        Wrong(name="two-hubs", change=_groups(hub=["twin-a", "twin-b"]), says=("put one there",)),
    ]


def _keys() -> list[Wrong]:
    return [
        Wrong(
            name="unknown-key",
            change={"borough_adress": "10.77.0.11"},
            says=("'borough_adress' is not known", "did you mean 'borough_address'"),
        ),
        Wrong(
            name="unknown-role",
            change=_groups(node=["in-south-1"]),
            says=("group 'node' is not known", "did you mean 'nodes'"),
        ),
        Wrong(name="no-release", change={"borough_version": ABSENT}, says=("name the release (borough_version)",)),
        Wrong(
            name="release-like-a-number",
            change={"borough_version": "99.1.1795445802"},
            says=("borough_version '99.1.1795445802' may not cross the border", "at most 6 digits"),
        ),
        Wrong(name="capacity-of-none", change={"borough_capacity": 0}, says=("number from 1 to 1000",)),
        Wrong(name="workers-of-text", change={"borough_workers": "many"}, says=("number from 1 to 64",)),
        Wrong(
            name="unknown-engine",
            change={"borough_models": {"ars": "whisper-tiny.en"}},
            says=("borough_models: 'ars' is not known", "did you mean 'asr'"),
        ),
        Wrong(name="unknown-codec", change={"borough_codecs": ["ulow"]}, says=("did you mean 'ulaw'",)),
        Wrong(name="no-secrets", change={"borough_secrets": ABSENT}, says=("playbooks/secrets.yml",)),
        Wrong(
            name="short-master-key",
            change={"borough_secrets": {**SECRETS, "master": ["0f"]}},
            says=("64 hexadecimal digits", "playbooks/secrets.yml"),
        ),
        Wrong(
            name="secrets-left-as-they-were",
            change={"borough_secrets": {**SECRETS, "ari": "<43 letters, digits, - and _>"}},
            says=("borough_secrets.ari", "playbooks/secrets.yml"),
        ),
    ]


def _networks() -> list[Wrong]:
    return [
        Wrong(name="no-address", change={"borough_address": ABSENT}, says=("write it as 10.77.0.11",)),
        Wrong(name="address-of-name", change={"borough_address": "node1"}, says=("write it as 10.77.0.11",)),
        Wrong(name="bad-cidr", change=_trunk(networks=["10.77.0.1/33"]), says=("write ADDRESS/BITS",)),
        Wrong(name="cidr-of-host", change=_trunk(networks=["10.77.0.1/24"]), says=("write 10.77.0.0/24",)),
        Wrong(name="trunk-of-everybody", change=_trunk(networks=["0.0.0.0/0"]), says=("is everybody", "name the net")),
        Wrong(name="trunk-without-networks", change=_trunk(networks=[]), says=("write the networks",)),
        Wrong(name="trunk-unknown-key", change=_trunk(netwroks=["10.77.0.1/32"]), says=("did you mean 'networks'",)),
        Wrong(name="trunk-transport", change=_trunk(transport="sctp"), says=("write one of udp, tcp, tls",)),
        Wrong(name="srtp-in-clear", change=_trunk(srtp=True), says=("set transport: tls",)),
        Wrong(name="trunk-port", change=_trunk(port=70000), says=("1 to 65535",)),
        Wrong(name="trunk-twice", change={"borough_trunks": [TRUNK, TRUNK]}, says=("a name of its own",)),
        Wrong(
            name="trunks-overlap",
            change={"borough_trunks": [TRUNK, {**TRUNK, "name": "carrier-b", "networks": ["10.77.0.0/24"]}]},
            says=("can belong to one carrier only",),
        ),
        Wrong(name="no-trunks", change={"borough_trunks": ABSENT}, says=("must be a list of carriers",)),
        Wrong(name="vip-elsewhere", change={"borough_vip": "192.0.2.1"}, says=("choose a free address in there",)),
        Wrong(
            name="vip-of-node",
            change={"borough_vip": "10.77.0.11"},
            says=("a node's own address: choose a free one",),
        ),
        Wrong(
            name="ssh-of-nobody",
            stage="machine",
            change={"borough_admin_networks": []},
            says=("list the networks of your contr",),
        ),
        Wrong(
            name="ssh-without-you",
            stage="machine",
            change={"borough_admin_networks": ["192.0.2.0/24"]},
            says=("leaves out 10.77.0.1", "add it"),
        ),
        Wrong(name="time-of-text", change={"borough_ntp_servers": "pool"}, says=("must be a list",)),
    ]


def _store(place: Place) -> list[Wrong]:
    return [
        Wrong(name="no-store", stage="store", change={"borough_store": "/nonexistent"}, says=("run `borough build",)),
        Wrong(
            name="no-key",
            stage="store",
            change={"borough_store_key": "/nonexistent"},
            says=("copy the build host's public key",),
        ),
        Wrong(
            name="foreign-signature",
            stage="store",
            change={"borough_store_key": str(place.other_key)},
            says=("copy the store anew",),
        ),
        Wrong(
            name="other-release",
            stage="store",
            change={"borough_version": "9.9"},
            says=("holds release 0.1.0", "correct one"),
        ),
        Wrong(
            name="torn-store",
            stage="store",
            change={"borough_store": str(place.torn_store)},
            says=("models.tar: FAILED", "copy the store anew"),
        ),
        Wrong(
            name="file-missing",
            stage="store",
            change={"borough_store": str(place.partial_store)},
            says=("debs.tar: FAILED open", "copy the store anew"),
        ),
        Wrong(
            name="unknown-model",
            stage="store",
            change={"borough_models": {"asr": "whisper-huge"}},
            says=("no model whisper-huge", "choose from"),
        ),
    ]


def _machine(place: Place) -> list[Wrong]:
    return [
        Wrong(name="debian-12", stage="machine", change={"preflight_system": "Debian 12"}, says=("install Debian 13",)),
        Wrong(
            name="no-avx2",
            stage="machine",
            change={"preflight_cpuinfo": str(place.old_cpu)},
            says=("set the CPU model to",),
        ),
        Wrong(
            name="few-cores", stage="machine", change={"preflight_min_cores": 4096}, says=("needs 4096", "give it more")
        ),
        Wrong(
            name="little-memory",
            stage="machine",
            change={"preflight_min_memory_mb": 10**9},
            says=("MiB of memory", "give it more"),
        ),
        Wrong(name="little-disk", stage="machine", change={"preflight_min_disk_mb": 10**9}, says=("enlarge the disk",)),
        Wrong(
            name="clock-behind",
            stage="machine",
            change={"preflight_controller_time": "{{ now(utc=true).timestamp() + 3600 }}"},
            says=("The clock is -3", "timedatectl set-time"),
        ),
        Wrong(
            name="port-taken",
            stage="machine",
            change={"preflight_ports": {f"tcp/{place.hub_port}": ["nats-server"]}},
            says=(f"port tcp/{place.hub_port} is taken by", "systemctl disable --now"),
        ),
        Wrong(
            name="address-of-another",
            stage="machine",
            change={"preflight_addresses": ["10.77.0.99"]},
            says=("has 10.77.0.99 and not borough_address 10.77.0.11", "correct the"),
        ),
    ]


def _hub(place: Place) -> list[Wrong]:
    token = "borough_token_file"  # noqa: S105 - the name of a variable
    return [
        Wrong(
            name="silent-hub",
            stage="identity",
            change={"preflight_hub_ports": [place.closed_port]},
            says=("playbooks/hub.yml",),
        ),
        Wrong(
            name="no-authority",
            stage="identity",
            change={"borough_hub_authority": "/nonexistent"},
            says=("copy the authority.pem",),
        ),
        Wrong(
            name="no-token",
            stage="identity",
            change={token: ABSENT},
            says=("borough node token create in-south --node in-south-1",),
        ),
        Wrong(
            name="expired-token",
            stage="identity",
            change={token: str(place.tokens / "expired.json")},
            says=("expired at", "new one"),
        ),
        Wrong(
            name="token-of-another-region",
            stage="identity",
            change={token: str(place.tokens / "region.json")},
            says=("for region 'eu-central' and this inventory is 'in-south'", "new one"),
        ),
        Wrong(
            name="token-of-another-node",
            stage="identity",
            change={token: str(place.tokens / "node.json")},
            says=("for node 'in-south-9'", "new one"),
        ),
        Wrong(
            name="token-of-noise",
            stage="identity",
            change={token: str(place.tokens / "noise.json")},
            says=("is not what", "new one"),
        ),
        Wrong(
            name="wrong-ca",
            stage="identity",
            change={"borough_hub_authority": str(place.other_authority)},
            says=("made by another hub", "authority.pem"),
        ),
        Wrong(
            name="enrolled-at-another-hub",
            stage="identity",
            change={
                "borough_hub_authority": str(place.other_authority),
                "preflight_identity": str(place.enrolled),
            },
            says=("enrolled at another hub", "playbooks/decommission.yml"),
        ),
        Wrong(
            name="enrolled-as-another",
            stage="identity",
            change={"preflight_identity": str(place.enrolled_elsewhere)},
            says=("enrolled as eu-central/eu-central-1", "correct borough_region"),
        ),
        Wrong(
            name="certificate-expired",
            stage="identity",
            change={"preflight_identity": str(place.expired)},
            says=("has expired", "playbooks/rebuild-node.yml"),
        ),
        Wrong(
            name="description-refused",
            stage="identity",
            change={"borough_capacity": 1000, "borough_codecs": ["ulaw"], "borough_models": {"asr": ""}},
            says=("models.asr",),
        ),
    ]


def _trunk(**change: object) -> Vars:
    return {"borough_trunks": [{**TRUNK, **change}]}


def _groups(**change: list[str]) -> Vars:
    return {"preflight_groups": {**GROUPS, **change}}
