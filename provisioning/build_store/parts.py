"""The parts of a build store, each made once and kept under the hash of what it is made of.

A part is a folder of the cache: the archive and `part.json`, which says what is in it. Its name is the digest of its
recipe, so a second build finds it; older parts of the same kind are removed when a new one is whole.
"""

import hashlib
import json
import re
import shutil
import tempfile
from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass
from pathlib import Path

from provisioning.asterisk.image import ensure_image
from provisioning.asterisk.image import read_manifest as read_asterisk_manifest
from provisioning.build_store.archive import pack, pack_root, sha256_of
from provisioning.build_store.debs import collect_debs
from provisioning.build_store.errors import BuildError
from provisioning.build_store.lock import read_lock
from provisioning.build_store.manifest import Component, StoredFile
from provisioning.build_store.root import RECIPE_DIRECTORY, ensure_minimal_root, read_lines, read_suite
from provisioning.build_store.source import Source, make_wheel
from provisioning.build_store.wheels import (
    NODE_ENVIRONMENT,
    PLATFORMS,
    Report,
    Wheel,
    collect_wheels,
    lines_with_hashes,
    product_requirements,
)
from provisioning.models.fetching import fetch
from provisioning.models.registry import load_registry
from provisioning.models.store import ModelStore

# Grows when the way of making parts changes in a manner that their recipes do not show.
RECIPE_VERSION = 3
WHEELS = "wheels.tar"
DEBS = "debs.tar"
ASTERISK = "asterisk.tar.zst"
MODELS = "models.tar"


@dataclass(frozen=True, slots=True, kw_only=True)
class Part:
    """An archive in the cache and what it brings; `facts` are what the manifest says besides."""

    path: Path
    file: StoredFile
    components: tuple[Component, ...]
    facts: dict[str, str]


@dataclass(frozen=True, slots=True, kw_only=True)
class Content:
    """What a maker has put into its archive."""

    components: list[Component]
    facts: dict[str, str]


@dataclass(frozen=True, slots=True, kw_only=True)
class Workshop:
    """Where parts are made: `state` as `.state` of a checkout; `is_fresh` asks mirrors again for Debian packages."""

    state: Path
    source: Source
    report: Report
    is_fresh: bool = False

    @property
    def cache(self) -> Path:
        return self.state / "build"

    @property
    def images(self) -> Path:
        return self.state / "images"


def wheels_part(shop: Workshop) -> Part:
    """Everybody else's wheels and the requirements.txt of them; the same while the lock is. Raises BuildError."""
    lock = shop.source.repository / "requirements.lock"
    wanted = product_requirements(shop.source.repository / "pyproject.toml")

    def make(folder: Path, target: Path) -> Content:
        wheels = collect_wheels(wanted, read_lock(lock), folder, shop.report)
        (folder / "requirements.txt").write_text(lines_with_hashes(wheels.values()), encoding="utf-8")
        pack(folder, target)
        return Content(components=[_wheel_component(one, WHEELS) for one in wheels.values()], facts={})

    return _part(shop, WHEELS, [sha256_of(lock), sorted(map(str, wanted)), NODE_ENVIRONMENT, PLATFORMS], make)


def own_part(shop: Workshop) -> Part:
    """Borough's own wheel. Raises BuildError."""
    name = f"borough-{shop.source.version}-py3-none-any.whl"

    def make(folder: Path, target: Path) -> Content:
        shop.report("making Borough's wheel")
        wheel = make_wheel(shop.source, folder)
        if wheel.path.name != target.name:
            raise BuildError(f"the wheel is {wheel.path.name}, not {target.name}", hint="is the package pure Python?")
        wheel.path.replace(target)
        return Content(components=[_wheel_component(wheel, target.name)], facts={})

    return _part(shop, name, [shop.source.digest, shop.source.version], make)


def debs_part(shop: Workshop) -> Part:
    """The flat repository of what the roles install. Raises BuildError."""
    names = read_lines(RECIPE_DIRECTORY / "packages.txt")
    suite = read_suite()

    def make(folder: Path, target: Path) -> Content:
        shop.report("resolving Debian packages")
        root = ensure_minimal_root(shop.images)
        packages = collect_debs(names, suite=suite, minimal_root=root, directory=folder)
        pack(folder, target)
        rows = [
            Component(kind="debian", name=one.name, version=one.version, licence="", sha256=one.sha256, where=DEBS)
            for one in packages
        ]
        return Content(components=rows, facts={"suite": suite})

    return _part(shop, DEBS, [names, suite], make, is_fresh=shop.is_fresh)


def asterisk_part(shop: Workshop) -> Part:
    """The Asterisk root image, packed. Raises AsteriskImageError or BuildError."""
    shop.report("the Asterisk image")
    root = ensure_image(state_directory=shop.images)
    manifest = read_asterisk_manifest(root)

    def make(_folder: Path, target: Path) -> Content:
        shop.report("packing the Asterisk image")
        # The build machine's own, which mmdebstrap lays into every root.
        pack_root(root, target, emptied=("etc/hostname", "etc/resolv.conf"))
        rows = [
            Component(kind="asterisk-root", name=name, version=version, licence="", sha256="", where=ASTERISK)
            for name, version in manifest.packages.items()
        ]
        return Content(components=rows, facts={"version": manifest.asterisk_version, "hash": manifest.sha256[:16]})

    return _part(shop, ASTERISK, [manifest.sha256], make)


def models_part(shop: Workshop) -> Part:
    """The models that a node uses by default. Raises ModelError or BuildError."""
    store = ModelStore(root=shop.state / "models")
    names = sorted(entry.name for entry in load_registry().values() if entry.is_default)
    shop.report("the models")
    manifests = [fetch(store, name, shop.report) for name in names]

    def make(_folder: Path, target: Path) -> Content:
        shop.report("packing the models")
        pack(store.root, target, *names)
        rows = [
            Component(
                kind="model",
                name=one.name,
                version=one.digest(),
                licence=one.licence,
                sha256=one.files[0].sha256,
                where=MODELS,
            )
            for one in manifests
        ]
        return Content(components=rows, facts={})

    return _part(shop, MODELS, [[asdict(one) for one in manifests]], make)


def _wheel_component(one: Wheel, where: str) -> Component:
    return Component(
        kind="python", name=one.name, version=one.version, licence=one.licence, sha256=one.sha256, where=where
    )


def _part(
    shop: Workshop,
    name: str,
    recipe: Iterable[object],
    make: Callable[[Path, Path], Content],
    *,
    is_fresh: bool = False,
) -> Part:
    kind = _kind(name)
    folder = shop.cache / f"{kind}-{_digest(recipe)}"
    if is_fresh or not (folder / "part.json").is_file():
        _make(shop, folder, name, make)
    return _read(folder, name)


def _kind(name: str) -> str:
    """Return what an archive is, whatever its version."""
    return re.split("[.-]", name, maxsplit=1)[0]


def _digest(recipe: Iterable[object]) -> str:
    text = json.dumps([RECIPE_VERSION, *recipe], sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def _make(shop: Workshop, folder: Path, name: str, make: Callable[[Path, Path], Content]) -> None:
    shop.cache.mkdir(parents=True, exist_ok=True)
    staging = Path(tempfile.mkdtemp(prefix=".part-", dir=shop.cache))
    try:
        (staging / "content").mkdir()
        content = make(staging / "content", staging / name)
        shutil.rmtree(staging / "content")
        rows = [asdict(one) for one in sorted(content.components, key=lambda one: (one.kind, one.name))]
        document = {"sha256": sha256_of(staging / name), "facts": content.facts, "components": rows}
        (staging / "part.json").write_text(json.dumps(document), encoding="utf-8")
        _replace(shop.cache, _kind(name), staging, folder)
    finally:
        shutil.rmtree(staging, ignore_errors=True)


def _replace(cache: Path, kind: str, staging: Path, folder: Path) -> None:
    """Give a finished folder its name; what was made of this kind before goes."""
    for older in cache.glob(f"{kind}-*"):
        shutil.rmtree(older)
    staging.rename(folder)


def _read(folder: Path, name: str) -> Part:
    document = json.loads((folder / "part.json").read_text(encoding="utf-8"))
    path = folder / name
    return Part(
        path=path,
        file=StoredFile(name=name, sha256=document["sha256"], bytes=path.stat().st_size),
        components=tuple(Component(**row) for row in document["components"]),
        facts=document["facts"],
    )
