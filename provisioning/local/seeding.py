"""Gives a fresh hub its regions and the example tenants, with the commands that an operator would use."""

import asyncio
import shutil
import sys
from collections.abc import Sequence
from pathlib import Path

import yaml

from provisioning.local.errors import SeedError
from provisioning.local.layout import StateLayout
from provisioning.local.plan import RegionPlan

HUB_ACTIVE_WITHIN_S = 60.0
LOOK_EVERY_S = 0.3
NODES_RUN_WITHIN_S = 600.0
# What the name of a local region says about where it is.
COUNTRIES = {"in": ("IN", ["dpdp"]), "eu": ("DE", ["gdpr"]), "us": ("US", ["tcpa"])}
ELSEWHERE: tuple[str, list[str]] = ("US", [])


async def seed(plans: Sequence[RegionPlan], tenants: Path, machine: StateLayout) -> None:
    """Apply regions and tenants and publish their knowledge; what is there already stays. Raises SeedError."""
    documents = machine.run / "seed"
    await asyncio.to_thread(write_documents, documents, [plan.name for plan in plans], tenants)
    await _until_active(machine)
    await _borough(machine, "apply", "-f", str(documents))
    for knowledge in await asyncio.to_thread(lambda: sorted(tenants.glob("*/knowledge"))):
        await _borough(machine, "knowledge", "build", "-f", str(knowledge.parent), "--publish")


def write_documents(directory: Path, regions: Sequence[str], tenants: Path) -> None:
    """Write the documents of regions and tenants; a tenant that names no region is served in all of them.

    Raises SeedError for a document that is no YAML.
    """
    shutil.rmtree(directory, ignore_errors=True)
    directory.mkdir(parents=True)
    (directory / "regions.yaml").write_text(yaml.safe_dump_all(map(_region, regions)), encoding="utf-8")
    for path in sorted(tenants.glob("*/*.yaml")):
        copy = directory / path.parent.name / path.name
        copy.parent.mkdir(exist_ok=True)
        try:
            placed = [_placed(document, regions) for document in yaml.safe_load_all(path.read_text(encoding="utf-8"))]
        except yaml.YAMLError as error:
            raise SeedError(f"{path}: {error}") from error
        copy.write_text(yaml.safe_dump_all(placed, sort_keys=False, allow_unicode=True), encoding="utf-8")


def _placed(document: object, regions: Sequence[str]) -> object:
    match document:
        case {"kind": "Tenant", "spec": dict(spec), **rest} if not spec.get("governance", {}).get("regions"):
            governance = {**spec.get("governance", {}), "regions": list(regions)}
            return {**rest, "kind": "Tenant", "spec": {**spec, "governance": governance}}
    return document


async def until_served(machine: StateLayout) -> None:
    """Wait until every node runs what the hub wants it to. Raises SeedError."""
    try:
        async with asyncio.timeout(NODES_RUN_WITHIN_S):
            while await _exit_code(machine, "fleet", "status", "--check", "--json"):  # noqa: ASYNC110 - the hub's word
                await asyncio.sleep(LOOK_EVERY_S)
    except TimeoutError:
        raise SeedError("the nodes do not run the newest bundle", hint="See `borough fleet status`.") from None


def _region(name: str) -> dict[str, object]:
    country, jurisdictions = COUNTRIES.get(name.partition("-")[0], ELSEWHERE)
    return {
        "apiVersion": "borough/v1",
        "kind": "Region",
        "metadata": {"name": name},
        "spec": {"title": name, "country": country, "jurisdictions": jurisdictions},
    }


async def _until_active(machine: StateLayout) -> None:
    """An instance that was killed holds the lease for a few seconds more."""
    try:
        async with asyncio.timeout(HUB_ACTIVE_WITHIN_S):
            while await _exit_code(machine, "fleet", "status", "--json"):  # noqa: ASYNC110 - the hub's word
                await asyncio.sleep(LOOK_EVERY_S)
    except TimeoutError:
        raise SeedError(f"the hub does not answer; see {machine.hub.log / 'controlplane.log'}") from None


async def _borough(machine: StateLayout, *arguments: str) -> None:
    process = await _start(machine, *arguments)
    output, errors = await process.communicate()
    if process.returncode != 0:
        said = (errors or output).decode(errors="replace").strip()
        raise SeedError(f"`borough {' '.join(arguments)}`: {said}")


async def _exit_code(machine: StateLayout, *arguments: str) -> int:
    process = await _start(machine, *arguments)
    await process.communicate()
    return process.returncode or 0


async def _start(machine: StateLayout, *arguments: str) -> asyncio.subprocess.Process:
    program = Path(sys.executable).with_name("borough")
    return await asyncio.create_subprocess_exec(
        str(program),
        *arguments,
        "--context",
        str(machine.admin_context),
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
