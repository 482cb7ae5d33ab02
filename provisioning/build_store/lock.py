"""Reads requirements.lock: which version of each Python package, and the sha256 of every file that may carry it."""

import re
from dataclasses import dataclass
from pathlib import Path

from packaging.requirements import InvalidRequirement, Requirement
from packaging.utils import canonicalize_name

from provisioning.build_store.errors import BuildError

_HASH = re.compile(r"--hash=sha256:([0-9a-f]{64})")


@dataclass(frozen=True, slots=True, kw_only=True)
class Pin:
    """One locked package."""

    name: str
    version: str
    sha256s: frozenset[str]

    def as_requirement(self) -> str:
        """The lines by which pip accepts only these files."""
        hashes = " ".join(f"--hash=sha256:{digest}" for digest in sorted(self.sha256s))
        return f"{self.name}=={self.version} {hashes}"


def read_lock(path: Path) -> dict[str, Pin]:
    """Return the pins by canonical name. Raises BuildError."""
    text = re.sub(r"\\\n\s*", "", path.read_text(encoding="utf-8"))
    pins = [_pin(line) for line in text.splitlines() if line and not line.lstrip().startswith("#")]
    return {pin.name: pin for pin in pins}


def _pin(line: str) -> Pin:
    try:
        requirement = Requirement(line.split("--hash", 1)[0].strip())
    except InvalidRequirement as error:
        raise BuildError(f"requirements.lock: {line[:60]!r}: {error}", hint="make lock") from error
    versions = [specifier.version for specifier in requirement.specifier if specifier.operator == "=="]
    digests = frozenset(_HASH.findall(line))
    if len(versions) != 1 or not digests:
        raise BuildError(f"requirements.lock: {requirement.name} has no version or no hash", hint="make lock")
    return Pin(name=canonicalize_name(requirement.name), version=versions[0], sha256s=digests)
