"""The Debian mirror is taken from apt's own sources, whichever way they are written."""

from pathlib import Path

import pytest

from provisioning.asterisk.mirror import DEFAULT_MIRROR, find_mirror


def test_deb822_source_is_found(tmp_path: Path) -> None:
    """Comments and the security archive are passed over."""
    sources = tmp_path / "sources.list.d"
    sources.mkdir()
    (sources / "debian.sources").write_text(
        "Types: deb\n# http://snapshot.debian.org/archive/debian/20250520T000000Z\n"
        "URIs: http://security.example/debian-security http://mirror.example/debian/\nSuites: bookworm\n"
    )
    assert find_mirror(tmp_path) == "http://mirror.example/debian"


@pytest.mark.parametrize(
    ("line", "found"),
    [
        ("deb http://mirror.example/debian bookworm main", "http://mirror.example/debian"),
        ("deb [arch=amd64 signed-by=/x.gpg] https://m.example/pub/debian sid main", "https://m.example/pub/debian"),
        ("deb [ arch=amd64 ] http://mirror.example/debian sid main", "http://mirror.example/debian"),
        ("# deb http://mirror.example/debian bookworm main", DEFAULT_MIRROR),
        ("deb-src http://mirror.example/debian bookworm main", DEFAULT_MIRROR),
        ("deb http://packages.example/cloud stable main", DEFAULT_MIRROR),
        ("deb cdrom:[Debian]/ bookworm main", DEFAULT_MIRROR),
        ("deb", DEFAULT_MIRROR),
        ("deb [arch=amd64", DEFAULT_MIRROR),
    ],
)
def test_one_line_source(tmp_path: Path, line: str, found: str) -> None:
    """Options, comments, sources of others and nonsense."""
    (tmp_path / "sources.list").write_text(line + "\n")
    assert find_mirror(tmp_path) == found


def test_machine_without_sources_uses_debians_own(tmp_path: Path) -> None:
    """No file, no mirror to take over."""
    assert find_mirror(tmp_path) == DEFAULT_MIRROR
