"""Makes a build store: the one folder that nodes and hubs are installed from, without a network.

manifest.json (.sig)  sbom.cdx.json  SHA256SUMS
wheels.tar  debs.tar  asterisk.tar.zst  models.tar
"""

import fcntl
import os
import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from provisioning.build_store.commands import disk_is_full, need_programs, need_room, need_root
from provisioning.build_store.errors import BuildHostError
from provisioning.build_store.manifest import SBOM, Manifest, describe_file, write_manifest
from provisioning.build_store.parts import Part, Workshop, asterisk_part, debs_part, models_part, own_part, wheels_part
from provisioning.build_store.sbom import write_sbom
from provisioning.build_store.source import read_source
from provisioning.build_store.wheels import NODE_PYTHON, Report

# 1.0 GB of archives in the cache, and as much while they are made.
STATE_BYTES = 3 << 30
# The archives once more, when the store lies on another disk than the cache.
STORE_BYTES = 5 << 28


@dataclass(frozen=True, slots=True, kw_only=True)
class Order:
    """What to build. `version` overrides the one made of the commit; `is_fresh` as in Workshop."""

    repository: Path
    state: Path
    out: Path
    sign_key: Path | None = None
    version: str = ""
    is_fresh: bool = False


def build_store(order: Order, report: Report) -> Manifest:
    """Make the store; what is in the cache is not made again. Raises BuildError, ModelError or AsteriskImageError."""
    need_root("building Debian roots")
    need_programs("git", "mmdebstrap", "tar", "zstd", "apt-get", "dpkg-deb")
    need_room(order.state, STATE_BYTES)
    need_room(order.out, STORE_BYTES)
    try:
        with _sole_builder(order.state / "build"):
            return _build(order, report)
    except OSError as error:
        if disk_is_full(error):
            raise BuildHostError(f"the disk is full: {error}", hint="free some GiB and run it again") from error
        raise


def _build(order: Order, report: Report) -> Manifest:
    source = read_source(order.repository, order.version)
    shop = Workshop(state=order.state, source=source, report=report, is_fresh=order.is_fresh)
    parts = [make(shop) for make in (wheels_part, own_part, debs_part, asterisk_part, models_part)]
    order.out.mkdir(parents=True, exist_ok=True)
    report("writing the store")
    wanted = {part.file.name for part in parts}
    for older in order.out.glob("borough-*.whl"):
        if older.name not in wanted:
            older.unlink()
    for part in parts:
        _place(part.path, order.out / part.file.name)
    return _describe(order, shop, parts)


def _describe(order: Order, shop: Workshop, parts: Sequence[Part]) -> Manifest:
    created_at = shop.source.created_at.isoformat()
    components = [one for part in parts for one in part.components]
    sbom = write_sbom(order.out / SBOM, version=shop.source.version, created_at=created_at, components=components)
    manifest = Manifest(
        version=shop.source.version,
        commit=shop.source.commit,
        created_at=created_at,
        python=NODE_PYTHON,
        files=tuple(sorted([*(part.file for part in parts), describe_file(sbom)], key=lambda one: one.name)),
        packages=tuple(one for one in components if one.kind != "model"),
        models=tuple(one for one in components if one.kind == "model"),
        asterisk=next(part.facts for part in parts if "hash" in part.facts),
    )
    write_manifest(manifest, order.out, order.sign_key)
    return manifest


def _place(source: Path, target: Path) -> None:
    """Put an archive into the store: a second name of the same file where the disk is the same."""
    if target.exists() and target.samefile(source):
        return
    partial = target.with_name(f".{target.name}.partial")
    partial.unlink(missing_ok=True)
    try:
        os.link(source, partial)
    except OSError:
        shutil.copyfile(source, partial)
    partial.replace(target)


@contextmanager
def _sole_builder(cache: Path) -> Iterator[None]:
    """Keep a second build in the same cache waiting until the first has ended."""
    cache.mkdir(parents=True, exist_ok=True)
    with (cache / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield
