"""Judges what a machine is found to be, and the token it is to enrol with; a problem says its remedy. Pure."""

import base64
import hashlib
import json
import re
from collections.abc import Callable, Iterable, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

TOKEN = re.compile(r"bo1\.(?P<id>[A-Za-z0-9_-]+)\.(?P<secret>[A-Za-z0-9_-]+)\.(?P<authority>[0-9a-f]{32})")


def token_problems(text: str, region: str, node: str, authority_sha256: str, now: str) -> list[str]:
    """`text`: what `borough node token create --json` printed; `now` in ISO 8601."""
    anew = f"ask the hub's team for a new one: `borough node token create {region} --node {node} --json`"
    token = _document(text)
    match = TOKEN.fullmatch(str(token.get("token", "")))
    if match is None:
        return [f"the token file is not what `borough node token create --json` prints: {anew}"]
    problems = []
    if token.get("region") != region:
        problems.append(f"the token is for region '{token.get('region')}' and this inventory is '{region}': {anew}")
    if token.get("node") not in (None, "", node):
        problems.append(f"the token is for node '{token.get('node')}' and not for '{node}': {anew}")
    if _moment(token.get("expires_at")) <= _moment(now):
        problems.append(f"the token expired at {token.get('expires_at')}: {anew}")
    if authority_sha256 and not authority_sha256.startswith(match["authority"]):
        problems.append(
            f"the token was made by another hub (authority {match['authority'][:12]}, and borough_hub_authority is "
            f"{authority_sha256[:12]}): name this hub's authority.pem, or {anew}"
        )
    return problems


def _document(text: str) -> Mapping[str, Any]:
    try:
        document = json.loads(text)
    except ValueError:
        return {}
    return document if isinstance(document, dict) else {}


def _moment(text: object) -> datetime:
    """The beginning of time for what is none: expired."""
    try:
        moment = datetime.fromisoformat(str(text))
    except ValueError:
        return datetime.fromtimestamp(0, UTC)
    return moment if moment.tzinfo else moment.replace(tzinfo=UTC)


def identity_problems(uris: str, region: str, node: str) -> list[str]:
    """`uris`: the names in the certificate of an enrolled machine's agent, as openssl prints them."""
    match = re.search(r"URI:borough://([^/]+)/([^/]+)/", uris)
    if match is None or match.groups() == (region, node):
        return []
    theirs = "/".join(match.groups())
    remedy = f"correct borough_region or borough_node, or take {theirs} down first (playbooks/decommission.yml)"
    return [f"the machine is enrolled as {theirs} and the inventory says {region}/{node}: {remedy}"]


def certificate_sha256(pem: str) -> str:
    """SHA-256 of the first certificate's DER, in hex."""
    body = pem.partition("-----BEGIN CERTIFICATE-----")[2].partition("-----END CERTIFICATE-----")[0]
    return hashlib.sha256(base64.b64decode("".join(body.split()))).hexdigest()


def description_problems(text: str) -> list[str]:
    """What the node's own commands would say to this node.toml."""
    # Only here: the rest needs nothing but Ansible.
    from provisioning.node.description import parse_description  # noqa: PLC0415
    from provisioning.node.errors import NodeDescriptionError  # noqa: PLC0415

    try:
        parse_description(Path("node.toml"), text)
    except NodeDescriptionError as error:
        return [f"{error} {error.hint}".strip()]
    return []


def taken_ports(listening: Iterable[str], wanted: Mapping[str, Any]) -> list[str]:
    """`listening`: lines of `ss -Hlntup`; `wanted`: by protocol/port, the name of the process that may hold it."""
    problems = []
    for line in listening:
        fields = line.split()
        if len(fields) < 5:
            continue
        key = f"{fields[0]}/{fields[4].rpartition(':')[2]}"
        holder = match[1] if (match := re.search(r'users:\(\("([^"]+)"', line)) else "somebody"
        if key in wanted and holder not in wanted[key]:
            problems.append(f"port {key} is taken by {holder}: stop it (`systemctl disable --now ...`) or move it")
    return sorted(set(problems))


class FilterModule:
    """What Ansible looks for."""

    def filters(self) -> dict[str, Callable[..., object]]:
        functions = (token_problems, identity_problems, certificate_sha256, description_problems, taken_ports)
        return {f"borough_{function.__name__}": function for function in functions}
