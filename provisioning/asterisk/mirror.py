"""Which Debian mirror this machine uses, read from apt's own sources (one-line and deb822 formats, sources.list(5))."""

from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

from provisioning.asterisk.errors import AsteriskImageError

APT_DIRECTORY = Path("/etc/apt")


def find_mirror(apt_directory: Path = APT_DIRECTORY) -> str:
    """Return the first source of Debian's main archive. Raises AsteriskImageError when apt has none."""
    files = [apt_directory / "sources.list", *sorted((apt_directory / "sources.list.d").glob("*"))]
    for file in files:
        if file.is_file() and file.suffix in {".list", ".sources"}:
            text = file.read_text(encoding="utf-8", errors="replace")
            uris = _deb822_uris(text) if file.suffix == ".sources" else _one_line_uris(text)
            for uri in uris:
                if is_main_archive(uri):
                    return uri.rstrip("/")
    raise AsteriskImageError(
        f"{apt_directory} names no Debian archive to build Asterisk from",
        hint="add a line `deb <mirror>/debian <release> main` to /etc/apt/sources.list",
    )


def is_main_archive(uri: str) -> bool:
    """Say whether this is an archive named `debian`; security and third parties have no Asterisk."""
    parts = urlsplit(uri)
    return parts.scheme in {"http", "https"} and parts.path.rstrip("/").endswith("/debian")


def _one_line_uris(text: str) -> Iterator[str]:
    for line in text.splitlines():
        words = line.split("#", 1)[0].split()
        if words[:1] != ["deb"]:
            continue
        rest = words[1:]
        if rest and rest[0].startswith("["):
            while rest and not rest[0].endswith("]"):
                rest = rest[1:]
            rest = rest[1:]
        if rest:
            yield rest[0]


def _deb822_uris(text: str) -> Iterator[str]:
    for line in text.splitlines():
        name, _, value = line.partition(":")
        if name.strip().lower() == "uris" and not line.startswith("#"):
            yield from value.split()
