"""Builds the Asterisk root image (images/asterisk) once and keeps it under a name made of its recipe's hash.

The image holds software only: no identity, no settings. It is used read-only (provisioning.asterisk.instance).
"""

import hashlib
import json
import os
import shutil
import subprocess
from dataclasses import asdict, dataclass
from pathlib import Path

from provisioning.asterisk.errors import AsteriskImageError
from provisioning.asterisk.mirror import find_mirror
from provisioning.staging import staged

REPOSITORY = Path(__file__).resolve().parents[2]
RECIPE_DIRECTORY = REPOSITORY / "images" / "asterisk"
STATE_DIRECTORY = REPOSITORY / ".state" / "images"

# chan_websocket speaks JSON from 22.8 on; 22.10 carries the backlog fix (asterisk#2115) and the 2026-06 security fixes.
OLDEST_VERSION = (22, 10)
# 22 s measured on two cores with a near mirror; a slow line needs minutes for 110 MB of packages.
BUILD_TIMEOUT_S = 1200.0
PROBE_TIMEOUT_S = 60.0
# Grows when the way of building changes in a manner that the package list does not show.
RECIPE_VERSION = 1
# Written last: with it the image is whole.
MANIFEST = "manifest.json"


@dataclass(frozen=True, slots=True, kw_only=True)
class ImageRecipe:
    """What the image is made of."""

    suite: str
    packages: tuple[str, ...]

    @property
    def digest(self) -> str:
        """Name of the image: changes with everything that makes its content."""
        text = json.dumps([RECIPE_VERSION, self.suite, list(self.packages)])
        return hashlib.sha256(text.encode()).hexdigest()[:16]


@dataclass(frozen=True, slots=True, kw_only=True)
class ImageManifest:
    """What a built image contains; kept beside it as manifest.json."""

    recipe: str
    mirror: str
    asterisk_version: str
    asterisk_sha256: str
    packages: dict[str, str]

    @property
    def sha256(self) -> str:
        """Digest of the whole manifest, the image's identity in reports."""
        return hashlib.sha256(json.dumps(asdict(self), sort_keys=True).encode()).hexdigest()


def read_recipe(directory: Path = RECIPE_DIRECTORY) -> ImageRecipe:
    """Read suite.txt and packages.txt."""
    suite = _read_lines(directory / "suite.txt")
    packages = _read_lines(directory / "packages.txt")
    if len(suite) != 1 or not packages:
        raise AsteriskImageError(
            f"{directory}: suite.txt needs exactly one line and packages.txt at least one",
            hint="restore them from the repository: git checkout images/asterisk",
        )
    return ImageRecipe(suite=suite[0], packages=tuple(packages))


def image_directory(recipe: ImageRecipe, state_directory: Path = STATE_DIRECTORY) -> Path:
    """Where the image of this recipe lives: the root is in `root`, the manifest beside it."""
    return state_directory / f"asterisk-{recipe.digest}"


def missing_requirement() -> str | None:
    """Say why this machine cannot build or run the image, or None."""
    if os.geteuid() != 0:
        return "root is needed to build and enter the Asterisk root image"
    for program in ("mmdebstrap", "unshare", "setpriv"):
        if shutil.which(program) is None:
            return f"{program} is missing: apt-get install mmdebstrap util-linux"
    return None


def ensure_image(recipe: ImageRecipe | None = None, *, state_directory: Path = STATE_DIRECTORY) -> Path:
    """Return the image's root directory, building it when it is not there yet. Blocks for half a minute then.

    Raises AsteriskImageError.
    """
    wanted = recipe or read_recipe()
    target = image_directory(wanted, state_directory)
    if (target / MANIFEST).is_file():
        return target / "root"
    reason = missing_requirement()
    if reason is not None:
        raise AsteriskImageError(reason, hint="run as root on a machine with mmdebstrap and util-linux installed")
    with staged(target, MANIFEST) as staging:
        _build_into(staging, wanted)
    return target / "root"


def read_manifest(root: Path) -> ImageManifest:
    """Read the manifest beside an image's root."""
    return ImageManifest(**json.loads((root.parent / MANIFEST).read_text(encoding="utf-8")))


def describe_root(root: Path, *, recipe: str, mirror: str) -> ImageManifest:
    """Ask a root what it contains. Raises AsteriskImageError where its Asterisk is missing or too old."""
    binary = root / "usr" / "sbin" / "asterisk"
    if not binary.is_file():
        raise AsteriskImageError(f"{root} has no /usr/sbin/asterisk", hint="add `asterisk` to packages.txt")
    version = _run(["chroot", str(root), "/usr/sbin/asterisk", "-V"], timeout_s=PROBE_TIMEOUT_S).split()[-1]
    if _version_numbers(version) < OLDEST_VERSION:
        raise AsteriskImageError(
            f"Asterisk {version} is older than {'.'.join(map(str, OLDEST_VERSION))}",
            hint="name a suite with a newer Asterisk in images/asterisk/suite.txt",
        )
    query = ["chroot", str(root), "dpkg-query", "-W", "-f", "${Package} ${Version}\\n"]
    lines = _run(query, timeout_s=PROBE_TIMEOUT_S).splitlines()
    return ImageManifest(
        recipe=recipe,
        mirror=mirror,
        asterisk_version=version,
        asterisk_sha256=hashlib.sha256(binary.read_bytes()).hexdigest(),
        packages=dict(line.split(" ", 1) for line in sorted(lines)),
    )


def build_command(recipe: ImageRecipe, root: Path, mirror: str) -> list[str]:
    """The mmdebstrap command; `Check-Valid-Until` is off because mirrors frozen in time serve expired indexes."""
    return [
        "mmdebstrap",
        "--variant=minbase",
        '--aptopt=Acquire::Check-Valid-Until "false"',
        '--aptopt=APT::Install-Recommends "false"',
        f"--include={','.join(recipe.packages)}",
        recipe.suite,
        str(root),
        mirror,
    ]


def _build_into(staging: Path, recipe: ImageRecipe) -> None:
    mirror = find_mirror()
    # Others must be able to traverse it: Asterisk runs as its own user.
    staging.chmod(0o755)
    root = staging / "root"
    _run(build_command(recipe, root, mirror), timeout_s=BUILD_TIMEOUT_S)
    manifest = describe_root(root, recipe=recipe.digest, mirror=mirror)
    text = json.dumps({**asdict(manifest)}, indent=1, sort_keys=True)
    (staging / MANIFEST).write_text(text + "\n", encoding="utf-8")


def _run(command: list[str], *, timeout_s: float) -> str:
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=timeout_s, check=False)
    except subprocess.TimeoutExpired as error:
        raise AsteriskImageError(
            f"{command[0]} did not finish in {timeout_s:.0f} s",
            hint="check the line to the Debian mirror and try again",
        ) from error
    if done.returncode != 0:
        tail = "\n".join(done.stderr.splitlines()[-8:])
        raise AsteriskImageError(
            f"{command[0]} failed with status {done.returncode}:\n{tail}",
            hint=f"the mirror is taken from /etc/apt (here {find_mirror()}); can this machine reach it?",
        )
    return done.stdout


def _read_lines(path: Path) -> list[str]:
    lines = (line.split("#", 1)[0].strip() for line in path.read_text(encoding="utf-8").splitlines())
    return [line for line in lines if line]


def _version_numbers(version: str) -> tuple[int, int]:
    major, _, rest = version.partition(".")
    minor = rest.partition(".")[0]
    digits = "".join(character for character in minor if character.isdigit())
    return int(major), int(digits or "0")
