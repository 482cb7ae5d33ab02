"""The bill of materials of a store, in CycloneDX 1.6 (JSON)."""

import hashlib
import json
import uuid
from collections.abc import Sequence
from pathlib import Path
from typing import Any
from urllib.parse import quote

from provisioning.build_store.manifest import Component

# CycloneDX's `type` of each kind of component; kinds as provisioning.build_store.parts names them.
_TYPES = {"python": "library", "debian": "library", "asterisk-root": "library", "model": "machine-learning-model"}


def write_sbom(path: Path, *, version: str, created_at: str, components: Sequence[Component]) -> Path:
    """Write sbom.cdx.json; the same components give the same bytes."""
    rows = [_component(one) for one in components]
    digest = hashlib.sha256(json.dumps([version, rows], sort_keys=True).encode()).digest()
    document = {
        "$schema": "http://cyclonedx.org/schema/bom-1.6.schema.json",
        "bomFormat": "CycloneDX",
        "specVersion": "1.6",
        # Made of the content, so that it can be reproduced; the format asks for a version 4 or 5 UUID.
        "serialNumber": f"urn:uuid:{uuid.UUID(bytes=digest[:16], version=5)}",
        "version": 1,
        "metadata": {
            "timestamp": created_at,
            "component": {
                "bom-ref": "borough",
                "type": "application",
                "name": "borough",
                "version": version,
                "licenses": [{"license": {"id": "Apache-2.0"}}],
            },
        },
        "components": rows,
        "dependencies": [{"ref": "borough", "dependsOn": [row["bom-ref"] for row in rows]}],
    }
    path.write_text(json.dumps(document, indent=1, sort_keys=True) + "\n", encoding="utf-8")
    return path


def _component(one: Component) -> dict[str, Any]:
    url = package_url(one)
    row: dict[str, Any] = {
        # A package may stand in the node's repository and in the Asterisk root.
        "bom-ref": f"{url}#{one.where}",
        "type": _TYPES[one.kind],
        "name": one.name,
        "version": one.version,
        "purl": url,
        "properties": [{"name": "borough:archive", "value": one.where}],
    }
    if one.sha256:
        row["hashes"] = [{"alg": "SHA-256", "content": one.sha256}]
    if one.licence:
        row["licenses"] = [{"license": {"name": one.licence}}]
    return row


def package_url(one: Component) -> str:
    """Return the component's purl."""
    version = quote(one.version, safe="")
    match one.kind:
        case "python":
            return f"pkg:pypi/{quote(one.name)}@{version}"
        case "debian" | "asterisk-root":
            return f"pkg:deb/debian/{quote(one.name)}@{version}?arch=amd64"
        case _:
            return f"pkg:generic/{quote(one.name)}@{version}"
