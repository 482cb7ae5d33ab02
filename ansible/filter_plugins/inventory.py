"""Judges what an inventory says: every problem comes back as a sentence that says what to write instead. Pure."""

import difflib
import ipaddress
import re
from collections.abc import Callable, Iterable, Mapping
from typing import Any

Own = Mapping[str, Any]

NAME = re.compile(r"[a-z][a-z0-9-]{0,30}[a-z0-9]")
# More digits could be a telephone number, which the border to the hub lets nobody pass (contract/names.py).
MOST_DIGITS = 6
# A node tells the hub its release, without what follows a plus (contract/names.py, edge/sync/health.py).
RELEASE_TOLD = re.compile(r"[0-9]{1,4}(\.[0-9]{1,4}){0,3}((a|b|rc|\.dev|\.post)[0-9]{1,3})?")
TRUNK_KEYS = ("name", "host", "port", "networks", "media_networks", "transport", "srtp")
TRANSPORTS = ("udp", "tcp", "tls")
SECRET = re.compile(r"[A-Za-z0-9_-]{32,128}")
MASTER = re.compile(r"[0-9A-Fa-f]{64}")
MODELS = ("asr", "embedding", "llm", "tts", "vad")
CODECS = ("alaw", "g722", "opus", "ulaw")
GROUPS = ("all", "hub", "nodes", "observer", "ungrouped")
# What an inventory may say; whoever writes a role that reads another one adds it here.
VARIABLES = (
    "borough_address",
    "borough_admin_networks",
    "borough_capacity",
    "borough_codecs",
    "borough_hub_address",
    "borough_hub_authority",
    "borough_hub_name",
    "borough_models",
    "borough_node",
    "borough_ntp_servers",
    "borough_region",
    "borough_regions",
    "borough_secrets",
    "borough_sip_certificate",
    "borough_sip_key",
    "borough_sip_trunk_authorities",
    "borough_store",
    "borough_store_key",
    "borough_token_file",
    "borough_trunks",
    "borough_version",
    "borough_vip",
    "borough_vip_interface",
    "borough_vip_prefix",
    "borough_vip_router_id",
    "borough_workers",
)
RELEASE = ("borough_version", "borough_store", "borough_store_key")
FOREIGN_HUB = ("borough_hub_name", "borough_hub_address", "borough_hub_authority")


def inventory_problems(own: Own, kind: str, groups: Mapping[str, list[str]], machines: Mapping[str, Own]) -> list[str]:
    """All that is wrong with a host's inventory.

    `own`: its variables; `kind`: node or hub; `groups`: of the inventory, by name; `machines`: the variables of all
    machines that it names.
    """
    problems = unknown_keys((key for key in own if key.startswith("borough_")), VARIABLES)
    problems += [f"group {problem}" for problem in unknown_keys(groups, GROUPS)]
    problems += _whole_problems(own, kind, groups)
    for key, what in (("borough_node", "name"), ("borough_address", "address")):
        problems += duplicate_problems({host: str(machines[host].get(key, host)) for host in machines}, what)
    problems += address_problems(own.get("borough_address", ""), "borough_address")
    if not isinstance(own.get("borough_ntp_servers", []), list):
        problems.append("borough_ntp_servers must be a list: [192.0.2.1], or [] where the hypervisor keeps the clock")
    if kind == "node":
        problems += _node_problems(
            own, [str(machines[host].get("borough_address")) for host in groups.get("nodes", [])]
        )
    return problems


def _whole_problems(own: Own, kind: str, groups: Mapping[str, list[str]]) -> list[str]:
    """Whether the region, its hub and its machines are named."""
    hubs, nodes = groups.get("hub", []), groups.get("nodes", [])
    region = own.get("borough_region")
    problems = name_problems(own.get("borough_node"), "borough_node")
    if region is None:
        problems.append("the region has no name: set borough_region in group_vars/all/main.yml, such as in-south")
    elif region == "hub":
        problems.append("region 'hub' is taken by the hub itself: choose another name")
    else:
        problems += name_problems(region, "borough_region")
    problems += [
        f"{key} is not set: in group_vars/all/main.yml, name the release (borough_version), the folder that "
        "`borough build --out` made (borough_store) and the public key of the build host (borough_store_key)"
        for key in RELEASE
        if not own.get(key)
    ]
    problems += release_problems(own.get("borough_version") or "0")
    if kind == "node" and not nodes:
        problems.append("group 'nodes' is empty: list the region's machines below nodes.hosts in hosts.yml")
    if len(hubs) > 1 or (not hubs and not all(own.get(key) for key in FOREIGN_HUB)):
        problems.append(
            f"{len(hubs)} machines are in group 'hub': put one there, or none and set {', '.join(FOREIGN_HUB)} to "
            "those of the hub that another team runs"
        )
    if set(hubs) & set(nodes):
        problems.append("a machine is in 'hub' and in 'nodes': give the hub, which holds the authority's key, its own")
    return problems


def _node_problems(own: Own, addresses: list[str]) -> list[str]:
    problems = number_problems(own.get("borough_capacity", 28), "borough_capacity", 1, 1000)
    problems += number_problems(own.get("borough_workers", 2), "borough_workers", 1, 64)
    for key, known in (("borough_models", MODELS), ("borough_codecs", CODECS)):
        problems += [f"{key}: {problem}" for problem in unknown_keys(own.get(key, []), known)]
    if "borough_vip" in own and not address_problems(own.get("borough_address", ""), ""):
        problems += vip_problems(
            own["borough_vip"], own.get("borough_vip_prefix", 24), own["borough_address"], addresses
        )
    problems += trunk_problems(own.get("borough_trunks"))
    return problems + secret_problems(own.get("borough_secrets"))


def name_problems(name: object, what: str) -> list[str]:
    """Whether the text can name a region or a node."""
    if isinstance(name, str) and NAME.fullmatch(name) and sum(map(str.isdigit, name)) <= MOST_DIGITS:
        return []
    rule = f"use 2 to 32 lower-case letters, digits (at most {MOST_DIGITS}) and hyphens, a letter first"
    return [f"{what} '{name}' is no name: {rule}, such as in-south-1"]


def release_problems(version: object) -> list[str]:
    """Whether nodes may tell the hub that they run it; else it hears of none of them."""
    told = str(version).partition("+")[0]
    if RELEASE_TOLD.fullmatch(told) and sum(map(str.isdigit, told)) <= MOST_DIGITS:
        return []
    refused = f"borough_version '{version}' may not cross the border to the hub, which would hear of no node"
    remedy = (
        f"build the store anew with a version such as 1.2.3, at most {MOST_DIGITS} digits (what follows a plus is free)"
    )
    return [f"{refused}: {remedy}"]


def unknown_keys(given: Iterable[str], known: Iterable[str]) -> list[str]:
    """Which keys nobody reads, with the nearest that somebody does."""
    known = list(known)
    problems = []
    for key in sorted(set(given) - set(known)):
        near = difflib.get_close_matches(key, known, n=1)
        meant = f"did you mean '{near[0]}'?" if near else f"remove it; there is {', '.join(sorted(known))}"
        problems.append(f"'{key}' is not known: {meant}")
    return problems


def address_problems(address: object, what: str) -> list[str]:
    """Whether it is one IPv4 address."""
    try:
        ipaddress.IPv4Address(str(address))
    except ValueError:
        return [f"{what} '{address}' is no IPv4 address: write it as 10.77.0.11"]
    return []


def number_problems(number: object, what: str, least: int, most: int) -> list[str]:
    """Whether it is a whole number in the range."""
    if isinstance(number, int) and not isinstance(number, bool) and least <= number <= most:
        return []
    return [f"{what} '{number}' is not possible: write a number from {least} to {most}"]


def vip_problems(vip: object, prefix: int, address: str, siblings: Iterable[str]) -> list[str]:
    """Whether keepalived can move the address between the nodes."""
    problems = address_problems(vip, "borough_vip") + number_problems(prefix, "borough_vip_prefix", 8, 30)
    if problems:
        return problems
    network = ipaddress.IPv4Network(f"{address}/{prefix}", strict=False)
    if str(vip) in set(siblings):
        return [f"borough_vip {vip} is a node's own address: choose a free one in {network}"]
    if ipaddress.IPv4Address(str(vip)) not in network:
        return [f"borough_vip {vip} is not in {network}, where this node is: choose a free address in there"]
    return []


def admin_network_problems(networks: object, controller: str) -> list[str]:
    """Whether the list is one, and leaves the door open for who is working; `controller` empty: nobody knows."""
    if not networks:
        return ["borough_admin_networks is not set: list the networks of your controllers, else nobody can reach SSH"]
    problems = network_problems(networks, "borough_admin_networks")
    if not problems and controller and isinstance(networks, list) and not in_networks(controller, networks):
        problems.append(
            f"borough_admin_networks leaves out {controller}, where you are: add it, or SSH closes behind you"
        )
    return problems


def network_problems(networks: object, what: str) -> list[str]:
    """Whether it is a list of IPv4 networks, none of them everybody."""
    if not isinstance(networks, list):
        return [f"{what} must be a list of networks, such as [203.0.113.0/28]"]
    return [problem for network in networks for problem in _network_problem(network, what)]


def _network_problem(network: object, what: str) -> list[str]:
    try:
        parsed = ipaddress.IPv4Network(str(network))
    except ValueError:
        try:
            meant = str(ipaddress.IPv4Network(str(network), strict=False))
        except ValueError:
            meant = "ADDRESS/BITS, such as 203.0.113.0/28"
        return [f"{what}: '{network}' is no network: write {meant}"]
    if parsed.prefixlen == 0:
        return [f"{what}: {network} is everybody: name the networks that are meant"]
    return []


def trunk_problems(trunks: object) -> list[str]:
    """Everything that is wrong with borough_trunks."""
    if not isinstance(trunks, list) or not all(isinstance(trunk, Mapping) for trunk in trunks):
        return ["borough_trunks must be a list of carriers, each with name, host and networks; [] where there is none"]
    problems = [problem for trunk in trunks for problem in _trunk_problems(trunk)]
    names = [str(trunk.get("name")) for trunk in trunks]
    problems += [f"trunk '{name}' is there twice: give each carrier a name of its own" for name in _twice(names)]
    return problems or _overlaps(trunks)


def _trunk_problems(trunk: Mapping[str, Any]) -> list[str]:
    what = f"trunk '{trunk.get('name', '')}'"
    problems = [f"{what}: {problem}" for problem in unknown_keys(trunk, TRUNK_KEYS)]
    problems += name_problems(trunk.get("name"), "trunk")
    if not trunk.get("host"):
        problems.append(f"{what} has no host: write the address that calls to a human are sent to")
    if not trunk.get("networks"):
        problems.append(f"{what} has no networks: write the networks that its SIP comes from")
    for key in ("networks", "media_networks"):
        problems += network_problems(trunk.get(key, []), f"{what}: {key}")
    port, transport = trunk.get("port", 5060), trunk.get("transport", "udp")
    if not isinstance(port, int) or not 1 <= port <= 65535:
        problems.append(f"{what}: port '{port}' is none: write one of 1 to 65535, most often 5060")
    if transport not in TRANSPORTS:
        problems.append(f"{what}: transport '{transport}' is not known: write one of {', '.join(TRANSPORTS)}")
    elif trunk.get("srtp") and transport != "tls":
        problems.append(f"{what}: srtp over {transport} sends its keys in clear: set transport: tls, or srtp: false")
    return problems


def _overlaps(trunks: list[Mapping[str, Any]]) -> list[str]:
    """A call is known by the address that it comes from."""
    seen: list[tuple[str, ipaddress.IPv4Network]] = []
    problems = []
    for trunk in trunks:
        networks = [ipaddress.IPv4Network(network) for network in trunk["networks"]]
        problems += [
            f"trunks '{other}' and '{trunk['name']}' share {network}: an address can belong to one carrier only"
            for network in networks
            for other, theirs in seen
            if network.overlaps(theirs)
        ]
        seen += [(trunk["name"], network) for network in networks]
    return problems


def duplicate_problems(named: Mapping[str, str], what: str) -> list[str]:
    """`named`: by host, what must be each host's own."""
    return [
        f"{what} '{value}' is given to {', '.join(sorted(host for host in named if named[host] == value))}: "
        "each machine needs its own"
        for value in _twice(list(named.values()))
    ]


def secret_problems(secrets: object) -> list[str]:
    """Whether the region's secrets are whole; says nothing of what they are."""
    make = "make them by `ansible-playbook -i INVENTORY playbooks/secrets.yml`, and give the vault password"
    if not isinstance(secrets, Mapping):
        return [f"the region's secrets (borough_secrets) are not there: {make}"]
    problems = [f"borough_secrets: {problem}" for problem in unknown_keys(secrets, ("subjects", "master", "ari"))]
    problems += [
        f"borough_secrets.{key} is not 32 to 128 letters, digits, - and _: {make}"
        for key in ("subjects", "ari")
        if SECRET.fullmatch(str(secrets.get(key, ""))) is None
    ]
    master = secrets.get("master")
    if not isinstance(master, list) or not master or not all(MASTER.fullmatch(str(key)) for key in master):
        problems.append(f"borough_secrets.master is no list of keys of 64 hexadecimal digits: {make}")
    return problems


def in_networks(address: str, networks: Iterable[str]) -> bool:
    """Whether one of the networks holds the address."""
    return any(ipaddress.ip_address(address) in ipaddress.ip_network(network) for network in networks)


def _twice(values: list[str]) -> list[str]:
    return sorted({value for value in values if values.count(value) > 1})


class FilterModule:
    """What Ansible looks for."""

    def filters(self) -> dict[str, Callable[..., object]]:
        return {
            "borough_inventory_problems": inventory_problems,
            "borough_admin_network_problems": admin_network_problems,
        }
