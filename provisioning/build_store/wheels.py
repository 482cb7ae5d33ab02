"""The wheels of a release: what the product needs of requirements.lock for nodes' Python, and Borough's own.

The lock also holds the developers' tools. What the product needs is found by walking: from the dependencies in
pyproject.toml, through each wheel's own metadata, with its markers evaluated for a node (not for this machine). pip
downloads with the operator's settings and accepts only files whose sha256 is in the lock.
"""

import hashlib
import tempfile
import tomllib
import zipfile
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from email.message import Message
from email.parser import HeaderParser
from pathlib import Path

from packaging.requirements import Requirement
from packaging.tags import Tag, compatible_tags, cpython_tags
from packaging.utils import canonicalize_name, parse_wheel_filename

from provisioning.build_store.errors import BuildCommandError, BuildError, BuildMismatchError
from provisioning.build_store.lock import Pin
from provisioning.build_store.pip import build_wheel, download

NODE_PYTHON = "3.13"
_NODE_VERSION = (3, 13)
# Debian 13 has glibc 2.41; wheels for anything up to it run.
_NEWEST_GLIBC_MINOR = 41
PLATFORMS = (
    *(f"manylinux_2_{minor}_x86_64" for minor in range(_NEWEST_GLIBC_MINOR, 4, -1)),
    *(f"manylinux{year}_x86_64" for year in ("2014", "2010", "1")),
    "linux_x86_64",
)
NODE_ENVIRONMENT = {
    "implementation_name": "cpython",
    "implementation_version": "3.13.5",
    "os_name": "posix",
    "platform_machine": "x86_64",
    "platform_python_implementation": "CPython",
    "platform_release": "",
    "platform_system": "Linux",
    "platform_version": "",
    "python_full_version": "3.13.5",
    "python_version": NODE_PYTHON,
    "sys_platform": "linux",
}

Report = Callable[[str], None]


@dataclass(frozen=True, slots=True, kw_only=True)
class Wheel:
    """One wheel of the store."""

    name: str
    version: str
    licence: str
    path: Path
    sha256: str


def node_tags() -> frozenset[Tag]:
    """Return every wheel tag that a node's Python takes."""
    cpython = cpython_tags(_NODE_VERSION, ["cp313"], PLATFORMS)
    return frozenset([*cpython, *compatible_tags(_NODE_VERSION, "cp313", PLATFORMS)])


def product_requirements(project_file: Path) -> list[Requirement]:
    """Return the dependencies of the product, without the developers' groups."""
    document = tomllib.loads(project_file.read_text(encoding="utf-8"))
    return [Requirement(text) for text in document["project"]["dependencies"]]


def collect_wheels(
    wanted: Iterable[Requirement], pins: dict[str, Pin], directory: Path, report: Report
) -> dict[str, Wheel]:
    """Bring the wheels of these requirements and of all they need into `directory`; returns them by name.

    Raises BuildDownloadError, BuildMismatchError or BuildError.
    """
    wheels: dict[str, Wheel] = {}
    queue = deque((canonicalize_name(one.name), frozenset(one.extras)) for one in wanted if applies(one, frozenset()))
    done: set[tuple[str, frozenset[str]]] = set()
    while queue:
        batch = set(queue) - done
        queue.clear()
        missing = sorted({name for name, _ in batch} - set(wheels))
        if missing:
            report(f"downloading {len(missing)} Python packages")
            wheels |= _bring([_find_pin(pins, name) for name in missing], directory)
        for name, extras in batch:
            for requirement in requirements_of(wheels[name].path):
                if applies(requirement, extras):
                    queue.append((canonicalize_name(requirement.name), frozenset(requirement.extras)))
        done |= batch
    return wheels


def applies(requirement: Requirement, extras: frozenset[str]) -> bool:
    """Say whether a node needs this, when these extras of the package that names it are wanted."""
    marker = requirement.marker
    if marker is None:
        return True
    return any(marker.evaluate({**NODE_ENVIRONMENT, "extra": extra}) for extra in ("", *extras))


def requirements_of(wheel: Path) -> Iterator[Requirement]:
    """Yield what a wheel's metadata asks for, markers included."""
    for text in _metadata(wheel).get_all("Requires-Dist") or []:
        yield Requirement(text)


def describe_wheel(path: Path) -> Wheel:
    """Read a wheel's name, version, licence and digest."""
    metadata = _metadata(path)
    classifiers = metadata.get_all("Classifier") or []
    named = [one.rsplit("::", 1)[1].strip() for one in classifiers if one.startswith("License ::")]
    licence = metadata.get("License-Expression") or ", ".join(named) or (metadata.get("License") or "").strip()
    return Wheel(
        name=canonicalize_name(metadata["Name"]),
        version=metadata["Version"],
        # Some packages put the whole text of their licence here.
        licence=licence.splitlines()[0][:100] if licence else "not stated",
        path=path,
        sha256=hashlib.sha256(path.read_bytes()).hexdigest(),
    )


def lines_with_hashes(wheels: Iterable[Wheel]) -> str:
    """The requirements.txt by which a node installs exactly these wheels."""
    rows = sorted(f"{one.name}=={one.version} --hash=sha256:{one.sha256}" for one in wheels)
    return "\n".join(rows) + "\n"


def _bring(pins: list[Pin], directory: Path) -> dict[str, Wheel]:
    with tempfile.TemporaryDirectory(prefix=".download-", dir=directory) as scratch:
        for path in download(pins, Path(scratch), python=NODE_PYTHON, platforms=PLATFORMS):
            made = path if path.suffix == ".whl" else _from_source(path, Path(scratch) / "made")
            made.replace(directory / made.name)
    found = {wheel.name: wheel for wheel in map(describe_wheel, directory.glob("*.whl"))}
    absent = [pin.name for pin in pins if pin.name not in found]
    if absent:
        raise BuildMismatchError(f"pip brought no {', '.join(absent)}", hint="make lock, then build again")
    return {pin.name: found[pin.name] for pin in pins}


def _from_source(path: Path, directory: Path) -> Path:
    """Make the wheel of a package that is published as source only; it must not need a compiler on this machine."""
    wheel = build_wheel(str(path), directory)
    if not parse_wheel_filename(wheel.name)[3] & node_tags():
        raise BuildCommandError(
            f"{path.name} became {wheel.name}, which a node's Python {NODE_PYTHON} does not take",
            hint="choose a version that is published as a wheel for it, then make lock",
        )
    return wheel


def _find_pin(pins: dict[str, Pin], name: str) -> Pin:
    if name not in pins:
        raise BuildError(f"requirements.lock has no {name}, which nodes need", hint="make lock")
    return pins[name]


def _metadata(wheel: Path) -> Message:
    with zipfile.ZipFile(wheel) as archive:
        name = next(one for one in archive.namelist() if one.endswith(".dist-info/METADATA") and one.count("/") == 1)
        return HeaderParser().parsestr(archive.read(name).decode())
