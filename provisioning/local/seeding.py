"""Gives a fresh hub its regions and the example tenants, with the commands that an operator would use."""

import asyncio
import shutil
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import yaml

from provisioning.local.errors import SeedError

HUB_ACTIVE_WITHIN_S = 60.0
LOOK_EVERY_S = 0.3
NODES_RUN_WITHIN_S = 600.0
# What the name of a local region says about where it is.
COUNTRIES = {"in": ("IN", ["dpdp"]), "eu": ("DE", ["gdpr"]), "us": ("US", ["tcpa"])}
ELSEWHERE: tuple[str, list[str]] = ("US", [])


@dataclass(frozen=True, slots=True, kw_only=True)
class Seeding:
    """Speaks to a hub as the admin of a context file; keeps the documents that it applied in `documents`."""

    context: Path
    documents: Path

    async def seed(self, regions: Sequence[str], tenants: Path) -> None:
        """Apply regions and tenants and publish their knowledge; what is there already stays. Raises SeedError."""
        await asyncio.to_thread(write_documents, self.documents, regions, tenants)
        await self._until_active()
        await self._borough("apply", "-f", str(self.documents))
        for knowledge in await asyncio.to_thread(lambda: sorted(tenants.glob("*/knowledge"))):
            await self._borough("knowledge", "build", "-f", str(knowledge.parent), "--publish")

    async def until_served(self) -> None:
        """Wait until every node runs what the hub wants it to. Raises SeedError."""
        try:
            async with asyncio.timeout(NODES_RUN_WITHIN_S):
                while await self._exit_code("fleet", "status", "--check", "--json"):  # noqa: ASYNC110 - the hub's word
                    await asyncio.sleep(LOOK_EVERY_S)
        except TimeoutError:
            raise SeedError("the nodes do not run the newest bundle", hint="See `borough fleet status`.") from None

    async def _until_active(self) -> None:
        """An instance that was killed holds the lease for a few seconds more."""
        try:
            async with asyncio.timeout(HUB_ACTIVE_WITHIN_S):
                while await self._exit_code("fleet", "status", "--json"):  # noqa: ASYNC110 - the hub's word
                    await asyncio.sleep(LOOK_EVERY_S)
        except TimeoutError:
            raise SeedError("the hub does not answer", hint="See the log of its control plane.") from None

    async def _borough(self, *arguments: str) -> None:
        process = await self._start(*arguments)
        output, errors = await process.communicate()
        if process.returncode != 0:
            said = (errors or output).decode(errors="replace").strip()
            raise SeedError(f"`borough {' '.join(arguments)}`: {said}")

    async def _exit_code(self, *arguments: str) -> int:
        process = await self._start(*arguments)
        await process.communicate()
        return process.returncode or 0

    async def _start(self, *arguments: str) -> asyncio.subprocess.Process:
        program = Path(sys.executable).with_name("borough")
        return await asyncio.create_subprocess_exec(
            str(program),
            *arguments,
            "--context",
            str(self.context),
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
        )


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


def _region(name: str) -> dict[str, object]:
    country, jurisdictions = COUNTRIES.get(name.partition("-")[0], ELSEWHERE)
    return {
        "apiVersion": "borough/v1",
        "kind": "Region",
        "metadata": {"name": name},
        "spec": {"title": name, "country": country, "jurisdictions": jurisdictions},
    }
