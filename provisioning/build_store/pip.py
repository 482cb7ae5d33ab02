"""How pip is asked: with the operator's settings (mirror, proxy, certificates), for a Python that is not this one."""

import sys
from collections.abc import Sequence
from pathlib import Path

from provisioning.build_store.commands import run
from provisioning.build_store.errors import BuildCommandError, BuildDownloadError, BuildError, BuildMismatchError
from provisioning.build_store.lock import Pin

# A slow mirror delivers the 300 MB of all wheels in this time; pip itself retries and times out single requests.
DOWNLOAD_TIMEOUT_S = 1800.0
BUILD_TIMEOUT_S = 300.0
# 1980-01-01, the earliest time that a zip archive can carry: the same source gives the same wheel.
WHEEL_EPOCH = 315_532_800

_PIP = (sys.executable, "-m", "pip", "--disable-pip-version-check")


def download(pins: Sequence[Pin], directory: Path, *, python: str, platforms: Sequence[str]) -> list[Path]:
    """Download exactly these packages, wheels where there are any. Raises BuildError."""
    listing = directory / "requirements.txt"
    listing.write_text("".join(f"{pin.as_requirement()}\n" for pin in pins), encoding="utf-8")
    command = [*_PIP, "download", "--quiet", "--no-deps", "--prefer-binary", "--require-hashes"]
    command += ["--implementation", "cp", "--python-version", python, "--abi", f"cp{python.replace('.', '')}"]
    command += [word for platform in platforms for word in ("--platform", platform)]
    try:
        run([*command, "--dest", str(directory), "--requirement", str(listing)], timeout_s=DOWNLOAD_TIMEOUT_S)
    except BuildCommandError as error:
        raise _explained(error) from error
    listing.unlink()
    return sorted(directory.iterdir())


def build_wheel(source: str, directory: Path) -> Path:
    """Make a wheel of a source tree or archive. Raises BuildError."""
    command = [*_PIP, "wheel", "--quiet", "--no-deps", "--wheel-dir", str(directory), source]
    run(command, timeout_s=BUILD_TIMEOUT_S, environment={"SOURCE_DATE_EPOCH": str(WHEEL_EPOCH)})
    wheels = list(directory.glob("*.whl"))
    if len(wheels) != 1:
        raise BuildCommandError(f"pip made {len(wheels)} wheels of {source}")
    return wheels[0]


def _explained(error: BuildCommandError) -> BuildError:
    """Say what pip's refusal means."""
    text = str(error)
    if "do not match the hashes" in text.lower():
        hint = "the registry serves other files than were locked: ask its operator, do not go on"
        return BuildMismatchError(text, hint=hint)
    if "no matching distribution found" in text.lower():
        hint = (
            "the registry lacks this file for the nodes' Python: mirror it, or choose another version and `make lock`"
        )
        return BuildDownloadError(text, hint=hint)
    return error
